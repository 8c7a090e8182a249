"""Our own routes: two-stage search, and what is searched."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import Request
from pydantic import Field

from ...config import MAX_CANDIDATES, SearchSettings
from ...result import SearchResult
from ..errors import Failure
from ..replies import Json
from ..service import Service
from .shared import Body, Served, new_router, remaining

router = new_router("tandem")


class SearchBody(Body):
    """One `query`, or `queries`."""

    query: str | None = None
    queries: list[str] | None = None
    collection: str | None = Field(default=None, description="The served collection's name; may be left out")
    top_k: int = Field(default=10, ge=1, le=MAX_CANDIDATES)
    candidates: int | None = Field(default=None, ge=1, le=MAX_CANDIDATES, description="Default: 100, or top_k if more")
    budget_ms: float | None = Field(default=250.0, gt=0, allow_inf_nan=False, description="null: rerank all candidates")
    rerank: bool = True
    return_text: bool = True
    filters: dict[str, Any] | None = Field(default=None, description="Not supported: must be absent or empty")


@router.post("/v1/search")
async def search(body: SearchBody, request: Request, service: Served) -> Json:
    """The passages that answer a query, best first, with both scores and how the budget was spent."""
    queries = _queries(body, service)
    chosen = SearchSettings(
        top_k=body.top_k,
        candidates=body.candidates or max(100, body.top_k),
        budget_ms=body.budget_ms,
        rerank=body.rerank,
    )
    left = remaining(request)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_one(service, query, chosen, left)) for query in queries]
    answers = []
    for task in tasks:
        result = task.result()
        if isinstance(result, Exception):
            raise result
        answers.append(_answer(result, body.return_text, service))
    headers = {"x-degraded": "1"} if any(answer["degraded"] for answer in answers) else {}
    return Json(answers[0] if body.query is not None else {"results": answers}, headers=headers)


@router.get("/v1/collections")
async def collections(service: Served) -> Json:
    """What is served, with its version and models."""
    engine = service.engine
    manifest = engine.collection.manifest
    models = manifest.models
    entry = {
        "name": engine.collection.path.resolve().name,
        "version": manifest.version,
        "passages": len(engine.collection),
        "documents": manifest.counts.documents,
        "dimension": manifest.dimension,
        "index": manifest.index.model_dump(mode="json"),
        "encoder": models.encoder.name,
        "reranker": models.reranker.name if models.reranker is not None else None,
        "device": engine.device.kind,
        "runs": engine.choices,
    }
    return Json({"collections": [entry]})


def _queries(body: SearchBody, service: Service) -> list[str]:
    if (body.query is None) == (body.queries is None):
        raise Failure("validation", "give query or queries, one of the two", param="query")
    if body.filters:
        raise Failure("validation", "filters on metadata are not supported; leave filters out", param="filters")
    name = service.engine.collection.path.resolve().name
    if body.collection is not None and body.collection != name:
        raise Failure("not_found", "no such collection is served here; GET /v1/collections names the one that is")
    queries = [body.query] if body.query is not None else body.queries or []
    if not queries:
        raise Failure("empty", "queries is empty; give at least one", param="queries")
    if len(queries) > service.settings.max_queries:
        limit = service.settings.max_queries
        raise Failure("validation", f"{len(queries)} queries exceed the limit of {limit}; split the request")
    service.check_inputs(queries, service.settings.max_text_characters)
    return queries


async def _one(service: Service, query: str, chosen: SearchSettings, left: float) -> SearchResult | Exception:
    """A search's result or its error: handed back, so that the group does not wrap it."""
    try:
        return await service.search(query, chosen, left)
    except Exception as error:
        return error


def _answer(result: SearchResult, return_text: bool, service: Service) -> dict[str, Any]:
    hits = [{"rank": rank, **asdict(hit)} for rank, hit in enumerate(result.hits, start=1)]
    if not return_text:
        for hit in hits:
            del hit["text"]
    return {
        "query": result.query,
        "hits": hits,
        "reranked": result.reranked,
        "candidates": result.candidates,
        "degraded": result.degraded,
        "truncated": result.truncated,
        "device": result.device,
        "timings": {stage: round(value, 3) for stage, value in asdict(result.timings).items()},
        "version": service.engine.collection.version,
    }
