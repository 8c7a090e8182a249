"""Our own routes: two-stage search, and what is searched."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from pydantic import Field

from ...config import FINALISTS, MAX_CANDIDATES, SearchSettings
from ...text.validation import checked
from ..errors import Failure
from ..json_response import Json, Written
from ..response_schemas import Collections, SearchAnswer, SearchAnswers
from ..search_response import together
from ..service import Service
from .shared import DEGRADED_HEADER, Body, Served, Texts, client_of, new_router, remaining

router = new_router("tandem", "tandem")


class SearchBody(Body):
    """One `query`, or `queries`."""

    query: str | None = None
    queries: Texts | None = None
    collection: str | None = Field(default=None, description="The served collection's name; may be left out")
    top_k: int = Field(default=10, ge=1, le=MAX_CANDIDATES)
    candidates: int | None = Field(default=None, ge=1, le=MAX_CANDIDATES, description="Default: 100, or top_k if more")
    budget_ms: float | None = Field(default=250.0, gt=0, allow_inf_nan=False, description="null: rerank all candidates")
    rerank: bool = True
    rerank_count: int | None = Field(
        default=None, ge=1, le=MAX_CANDIDATES,
        description="Candidates that the cross-encoder reads, those with the best evidence; null: all",
    )  # fmt: skip
    finalists: int | None = Field(
        default=FINALISTS, ge=1, le=MAX_CANDIDATES,
        description="Candidates, at least top_k and reread, that all layers of a reranker with an early exit read; "
        "null: all",
    )  # fmt: skip
    reread: int | None = Field(
        default=None, ge=1, le=MAX_CANDIDATES,
        description="Candidates, the best so far, that the cross-encoder reads again window by window; null: none",
    )  # fmt: skip
    return_text: bool = True
    filters: dict[str, Any] | None = Field(
        default=None,
        description='On metadata: {"lang": "en", "year": {"$gte": 2020}}; $eq $ne $gt $gte $lt $lte $in $nin $exists, '
        "and $and, $or, $not around them",
    )


@router.post("/v1/search", response_model=SearchAnswer | SearchAnswers)
async def search(body: SearchBody, request: Request, service: Served) -> Written:
    """The passages that answer a query, best first, with both scores and how the budget was spent."""
    queries = _queries(body, service)
    chosen = SearchSettings(
        top_k=body.top_k,
        candidates=body.candidates or max(100, body.top_k),
        budget_ms=body.budget_ms,
        rerank=body.rerank,
        rerank_count=body.rerank_count,
        finalists=body.finalists,
        reread=body.reread,
        filters=body.filters,
    )
    with service.lease() as lease:
        answers = await service.search(
            lease, queries, chosen, remaining(request), client_of(request), return_text=body.return_text
        )
    headers = {DEGRADED_HEADER: "1"} if any(answer.degraded for answer in answers) else {}
    return Written(answers[0].body if body.query is not None else together(answers), headers=headers)


@router.get("/v1/collections", response_model=Collections)
async def collections(service: Served) -> Json:
    """What is served, with its version and models."""
    facts = service.facts
    entry = {
        "name": facts.name,
        "version": facts.version,
        "passages": facts.passages,
        "documents": facts.documents,
        "dimension": facts.dimension,
        "index": facts.index,
        "encoder": facts.encoder.name,
        "reranker": facts.reranker.name if facts.reranker is not None else None,
        "device": facts.device,
        "runs": facts.runs,
    }
    return Json({"collections": [entry]})


def _queries(body: SearchBody, service: Service) -> list[str]:
    if (body.query is None) == (body.queries is None):
        raise Failure("validation", "give query or queries, one of the two", param="query")
    if body.collection is not None and body.collection != service.facts.name:
        raise Failure("not_found", "no such collection is served here; GET /v1/collections names the one that is")
    queries = [body.query] if body.query is not None else body.queries or []
    if not queries:
        raise Failure("empty", "queries is empty; give at least one", param="queries")
    service.check_inputs(queries, service.settings.max_text_characters)
    return [checked(query, "the query" if body.query is not None else f"query {n}") for n, query in enumerate(queries)]
