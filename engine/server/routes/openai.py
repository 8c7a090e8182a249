"""OpenAI's embeddings."""

from __future__ import annotations

import base64
from typing import Literal

import numpy as np
import numpy.typing as npt
from fastapi import Request
from pydantic import Field

from ...models.encoder import TextKind
from ..errors import Failure
from ..json_response import Json
from ..response_schemas import Embeddings, ModelList
from .shared import Body, IdRows, Ids, Served, Texts, client_of, listed, new_router, remaining
from .tei import shortened

router = new_router("OpenAI", "openai")


class EmbeddingsBody(Body):
    """`input`: a text or texts; token ids of another tokenizer mean nothing here."""

    input: str | Texts | Ids | IdRows
    dimensions: int | None = Field(default=None, ge=1)
    encoding_format: Literal["float", "base64"] | None = None
    input_type: TextKind | None = Field(default=None, description="query or passage: the model's prompt for it")


@router.post("/v1/embeddings", response_model=Embeddings)
@router.post("/embeddings", include_in_schema=False)
async def embeddings(body: EmbeddingsBody, request: Request, service: Served) -> Json:
    """Unit vectors, in the request's order."""
    inputs = listed(request, body.input)
    if not inputs:
        raise Failure("empty", "input is empty; give at least one text", param="input")
    texts = [text for text in inputs if isinstance(text, str)]
    if len(texts) != len(inputs):
        raise Failure(
            "validation",
            "input holds token ids; they are of another tokenizer than this model's, so send texts "
            "(LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))",
            param="input",
            status_override=400,
        )
    with service.lease() as lease:
        name = lease.facts.encoder.name
        result = await service.embed(
            lease, texts, body.input_type, remaining=remaining(request), client=client_of(request)
        )
    vectors = shortened(result.vectors, body.dimensions)
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format or "float")}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": result.tokens, "total_tokens": result.tokens}
    return Json({"object": "list", "data": data, "model": name, "usage": usage})


@router.get("/v1/models", response_model=ModelList)
async def models(service: Served) -> Json:
    """The two models."""
    facts = service.facts
    names = [model.name for model in (facts.encoder, facts.reranker) if model is not None]
    return Json({
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 0, "owned_by": "tandem"} for name in names],
    })  # fmt: skip


def _encoded(vector: npt.NDArray[np.float32], form: str) -> npt.NDArray[np.float32] | str:
    """The vector itself, or base64 of its little-endian float32."""
    return vector if form == "float" else base64.b64encode(vector.astype("<f4").tobytes()).decode()
