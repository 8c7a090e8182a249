"""OpenAI's embeddings and list of models, as Infinity, vLLM and NIM have them too."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from pydantic import AliasChoices, Field

from ...text.prompting import PromptWish
from ..catalogue import key_of
from ..errors import Failure
from ..json_response import Form, Json, written_vectors
from ..response_schemas import Embeddings, ModelEntry, ModelList
from ..service import Service
from ..target import name_of, needed_encoder
from .calls import embed_request, first_dimensions
from .shared import IdRows, Ids, Prompted, Served, Texts, new_router, target_of, texts_of, usage

router = new_router("OpenAI", "openai")


class EmbeddingsBody(Prompted):
    """`input`: a text or texts; token ids of another tokenizer mean nothing here."""

    input: str | Texts | Ids | IdRows
    dimensions: int | None = Field(default=None, ge=0, description="null and, as Infinity has it, 0: all")
    encoding_format: Form = Field(default="float", validation_alias=AliasChoices("encoding_format", "embedding_type"))
    input_type: str | None = Field(
        default=None, validation_alias=AliasChoices("input_type", "task"),
        description="As prompt_name, which others call so (Jina: task)",
    )  # fmt: skip

    @property
    def wish(self) -> PromptWish:
        """Raises InputError for what is no prompt, Failure for two names of one."""
        if self.input_type is not None and self.prompt_name is not None:
            raise Failure("validation", "give input_type or prompt_name, one of the two", param="input_type")
        return PromptWish(self.input_type or self.prompt_name, self.prompt, self.instruction)


@router.post("/v1/embeddings", response_model=Embeddings)
@router.post("/v1/collections/{collection}/embeddings", response_model=Embeddings)
@router.post("/embeddings", include_in_schema=False)
@router.post("/infinity/embeddings", include_in_schema=False)
async def embeddings(body: EmbeddingsBody, request: Request, service: Served) -> Json:
    """Vectors, in the request's order."""
    texts, facts = texts_of(request, body.input, "input"), service.facts_for("encoder", target_of(request))
    encoder = needed_encoder(facts)
    result = await embed_request(
        service, request, texts, body.wish, field="prompt_name" if body.input_type is None else "input_type"
    )
    vectors = first_dimensions(result.vectors, body.dimensions, encoder.similarity)
    rows = await written_vectors(vectors, body.encoding_format)
    data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
    return Json({"object": "list", "data": data, "model": name_of(facts, encoder), "usage": usage(result.tokens)})


@router.get("/v1/models", response_model=ModelList)
async def models(service: Served) -> Json:
    """The first collection's models, and those that are served by themselves."""
    return Json({"object": "list", "data": _entries(service, "tandem")})


@router.get("/models", include_in_schema=False)
@router.get("/infinity/models", include_in_schema=False)
async def infinity_models(service: Served) -> Json:
    """The same for Infinity's client, which takes no other owner."""
    return Json({"object": "list", "data": _entries(service, "infinity")})


@router.get("/v1/models/{model:path}", response_model=ModelEntry)
@router.get("/models/{model:path}", include_in_schema=False)
async def retrieve(model: str, service: Served) -> Json:
    """One of them, by its name."""
    entries = {entry["id"]: entry for entry in _entries(service, "tandem")}
    if model not in entries:
        raise Failure("not_found", f"no such model is served; there is {', '.join(entries)}", param="model")
    return Json(entries[model])


def _entries(service: Service, owner: str) -> list[dict[str, Any]]:
    """What is told of each model; `stats` are of the whole server."""
    load, opened = service.host.load, service.host.facts
    names = [*service.host.catalogue.names[:1], *map(key_of, service.host.catalogue.models)]
    if not opened:
        raise service.host.absent()
    served = [
        (facts, capability, model)
        for facts in (opened[name] for name in names if name in opened)
        for capability, model in (("embed", facts.encoder), ("rerank", facts.reranker))
        if model is not None
    ]
    return [
        {
            "id": name_of(facts, model),
            "object": "model",
            "created": 0,
            "owned_by": owner,
            "capabilities": [capability],
            "prompts": model.prompts,
            "instruction": model.prompting.takes_instruction,
            "stats": {
                "queue_fraction": load.tokens / service.settings.queue_tokens,
                "queue_absolute": load.jobs,
                "results_pending": len(service.in_flight),
                "batch_size": max(1, model.cost.tokens // model.max_length),
            },
        }
        for facts, capability, model in served
    ]
