"""NVIDIA NIM's ranking: passages in, logits out."""

from __future__ import annotations

from typing import Literal

from fastapi import Request
from pydantic import Field

from ...text.tokens import Truncate
from ..json_response import Json
from ..response_schemas import NimRankings
from ..service import Service
from .calls import rerank_request
from .shared import Body, Served, degradation, filled, new_router, usage

router = new_router("NIM", "nim")


class Text(Body):
    """An object with a text."""

    text: str


class RankingBody(Body):
    """`query` and `passages` as objects."""

    query: Text
    passages: list[Text]
    truncate: Literal["NONE", "END"] | None = None
    top_k: int | None = Field(default=None, ge=1)


@router.post("/v1/ranking", response_model=NimRankings)
@router.post("/v1/retrieval/{model:path}/reranking", include_in_schema=False)
async def ranking(body: RankingBody, request: Request, service: Served) -> Json:
    """Passages by their logits, best first."""
    return await rank(body, request, service)


async def rank(body: RankingBody, request: Request, service: Service) -> Json:
    """The answer to a ranking request, whichever route it came by."""
    texts = [passage.text for passage in filled(body.passages, "passages")]
    truncate: Truncate | None = None if body.truncate is None else "right" if body.truncate == "END" else "never"
    result = await rerank_request(service, request, body.query.text, texts, truncate=truncate)
    best = result.passages[: body.top_k]
    rankings = [{"index": passage.index, "logit": passage.score} for passage in best]
    return Json({"rankings": rankings, "usage": usage(result.tokens)}, headers=degradation(result.degraded))
