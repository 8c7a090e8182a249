"""Our own routes: two-stage search, and what is searched."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from pydantic import ConfigDict, Field

from ...config import SearchOptions, SearchSettings
from ...result import SearchResult
from ...text.checking import checked
from ..errors import Failure
from ..json_response import Json, Written
from ..model_info import Facts
from ..response_schemas import CollectionRow, Collections, SearchAnswers
from ..search_response import together
from ..service import Service
from ..target import needed_encoder
from .shared import DEGRADED_HEADER, OwnBody, Served, Texts, client_of, collection_of, filled, new_router, remaining

router = new_router("tandem", "tandem")


def _in_json(schema: dict[str, Any]) -> None:
    """What the options' words call none is null in JSON."""
    for field in schema["properties"].values():
        field["description"] = field.get("description", "").replace("none:", "null:")


class SearchBody(OwnBody, SearchOptions):
    """One `query`, or `queries`, and the options of a search."""

    query: str | None = None
    queries: Texts | None = None
    collection: str | None = Field(
        default=None, description="Which collection; null: the one in the path, or the first"
    )
    return_text: bool = Field(default=True, description="Whether hits have their texts")

    model_config = ConfigDict(json_schema_extra=_in_json)


@router.post("/v1/search", response_model=SearchResult | SearchAnswers)
@router.post("/v1/collections/{collection}/search", response_model=SearchResult | SearchAnswers)
async def search(body: SearchBody, request: Request, service: Served) -> Written:
    """The passages that answer a query, best first, with both scores and how the budget was spent."""
    queries = _queries(body, service)
    chosen = SearchSettings(**{name: getattr(body, name) for name in SearchOptions.model_fields})
    with service.lease(_named(body, request)) as lease:
        answers = await service.search(
            lease, queries, chosen, remaining(request), client_of(request), return_text=body.return_text
        )
    headers = {DEGRADED_HEADER: "1"} if any(answer.degraded_code for answer in answers) else {}
    return Written(answers[0].body if body.query is not None else together(answers), headers=headers)


@router.get("/v1/collections", response_model=Collections)
async def collections(service: Served) -> Json:
    """What is served, each with its version and models."""
    return Json({"collections": [_row(facts) for facts in service.all_facts()]})


@router.get("/v1/collections/{collection}", response_model=CollectionRow)
async def collection(collection: str, service: Served) -> Json:
    """One of them."""
    return Json(_row(service.facts(collection)))


def _row(facts: Facts) -> dict[str, Any]:
    return {
        "name": facts.name,
        "version": facts.version,
        "passages": facts.passages,
        "documents": facts.documents,
        "dimension": facts.dimension,
        "index": facts.index,
        "encoder": needed_encoder(facts).name,
        "reranker": facts.reranker.name if facts.reranker is not None else None,
        "device": facts.device,
        "runs": facts.runs,
    }


def _named(body: SearchBody, request: Request) -> str | None:
    """The collection that a search is for; raises Failure where path and body name two."""
    path = collection_of(request)
    if path is not None and body.collection not in (None, path):
        raise Failure("validation", "collection: the path names another one", param="collection")
    return path or body.collection


def _queries(body: SearchBody, service: Service) -> list[str]:
    if (body.query is None) == (body.queries is None):
        raise Failure("validation", "give query or queries, one of the two", param="query")
    queries = [body.query] if body.query is not None else filled(body.queries or [], "queries")
    service.check_queries(queries)
    return [checked(query, "the query" if body.query is not None else f"query {n}") for n, query in enumerate(queries)]
