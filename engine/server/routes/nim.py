"""NVIDIA NIM's ranking: passages in, logits out."""

from __future__ import annotations

from typing import Literal

from fastapi import Request

from ...text.tokens import Truncate
from ..errors import Failure
from ..json_response import Json
from ..response_schemas import NimRankings
from ..service import Service
from .shared import Body, Served, degradation, new_router, rerank_request

router = new_router("NIM", "nim")


class Text(Body):
    """An object with a text."""

    text: str


class RankingBody(Body):
    """`query` and `passages` as objects."""

    query: Text
    passages: list[Text]
    truncate: Literal["NONE", "END"] = "END"


@router.post("/v1/ranking", response_model=NimRankings)
@router.post("/v1/retrieval/nvidia/reranking", include_in_schema=False)
async def ranking(body: RankingBody, request: Request, service: Served) -> Json:
    """Passages by their logits, best first."""
    return await rank(body, request, service)


async def rank(body: RankingBody, request: Request, service: Service) -> Json:
    """The answer to a ranking request, whichever route it came by."""
    if not body.passages:
        raise Failure("empty", "passages is empty; give at least one", param="passages")
    texts = [passage.text for passage in body.passages]
    truncate: Truncate = "right" if body.truncate == "END" else "never"
    result = await rerank_request(service, request, body.query.text, texts, truncate=truncate)
    rankings = [{"index": passage.index, "logit": passage.score} for passage in result.passages]
    usage = {"prompt_tokens": result.tokens, "total_tokens": result.tokens}
    return Json({"rankings": rankings, "usage": usage}, headers=degradation(result.degraded))
