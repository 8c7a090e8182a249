"""vLLM's scores of pairs."""

from __future__ import annotations

import time

from fastapi import Request
from pydantic import AliasChoices, Field

from ..errors import Failure
from ..json_response import Json
from ..response_schemas import Scores
from ..target import name_of, needed_reranker
from .calls import score_pairs
from .shared import Prompted, Served, Texts, new_router, scaled, target_of, usage

router = new_router("vLLM", "openai")


class ScoreBody(Prompted):
    """`text_1` and `text_2`: one text and one or several, or as many of both."""

    text_1: str | Texts = Field(validation_alias=AliasChoices("text_1", "data_1", "queries"))
    text_2: str | Texts = Field(validation_alias=AliasChoices("text_2", "data_2", "documents", "items"))
    use_activation: bool | None = Field(default=None, description="false: logits; else their logistic, in [0, 1]")


@router.post("/v1/score", response_model=Scores)
@router.post("/score", include_in_schema=False)
async def scores(body: ScoreBody, request: Request, service: Served) -> Json:
    """What the cross-encoder says of each pair, in the request's order."""
    first, second = ([given] if isinstance(given, str) else given for given in (body.text_1, body.text_2))
    request.state.single = len(second) == 1
    if len(first) == 1:
        first = first * len(second)
    if not first or len(first) != len(second):
        raise Failure("validation", "text_1 has to be one text, or as many as text_2 and not none", param="text_1")
    facts = service.facts_for("reranker", target_of(request))
    model = name_of(facts, needed_reranker(facts))
    logits, tokens, _ = await score_pairs(service, request, list(zip(first, second, strict=True)), wish=body.wish)
    rows = [
        {"index": place, "object": "score", "score": scaled(logit, body.use_activation is False)}
        for place, logit in enumerate(logits)
    ]
    return Json({
        "id": request.state.request_id,
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": rows,
        "usage": usage(tokens),
    })  # fmt: skip
