"""Cohere's embeddings."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Request
from pydantic import Field

from ...text.prompting import PromptWish
from ...text.tokens import Truncate
from ..json_response import Form, Json, written_vectors
from ..response_schemas import CohereEmbeddings
from ..target import needed_encoder
from .calls import embed_request, first_dimensions
from .shared import Body, Served, Texts, filled, new_router, target_of

router = new_router("Cohere", "flat")
_CUTS: dict[str | None, Truncate | None] = {None: None, "NONE": "never", "START": "left", "END": "right"}


class EmbedTextsBody(Body):
    """`texts`; of Cohere's number formats those that lose nothing."""

    texts: Texts
    input_type: str | None = None
    embedding_types: list[Form] | None = None
    truncate: Literal["NONE", "START", "END"] | None = None
    output_dimension: int | None = Field(default=None, ge=1)


@router.post("/v2/embed", response_model=CohereEmbeddings)
@router.post("/v1/embed", include_in_schema=False)
async def embed(body: EmbedTextsBody, request: Request, service: Served) -> Json:
    """Vectors by format; the first version has a bare list where no format is asked for."""
    texts, wish = filled(body.texts, "texts"), PromptWish(body.input_type)
    result = await embed_request(service, request, texts, wish, _CUTS[body.truncate], field="input_type")
    similarity = needed_encoder(service.facts_for("encoder", target_of(request))).similarity
    vectors = first_dimensions(result.vectors, body.output_dimension, similarity)
    forms = {form: await written_vectors(vectors, form) for form in body.embedding_types or ["float"]}
    bare = body.embedding_types is None and request.url.path.endswith("/v1/embed")
    told: dict[str, Any] = {
        "response_type": "embeddings_floats" if bare else "embeddings_by_type",
        "id": request.state.request_id,
        "embeddings": forms["float"] if bare else forms,
        "texts": texts,
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": result.tokens}},
    }
    return Json(told)
