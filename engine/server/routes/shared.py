"""What the dialects share: lenient bodies, documents, scores, the service behind a request."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, get_type_hints

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, FailFast, Field, TypeAdapter, ValidationError
from starlette.responses import Response
from typing_extensions import TypeAliasType

from ...result import Reranked, RerankResult
from ...text.tokens import Truncate
from ..deadline import milliseconds
from ..errors import Dialect, Failure
from ..json_body import parsed
from ..response_schemas import failures
from ..service import Service


class _Route(APIRoute):
    """A route whose POST endpoint takes its body first, and then by name what it needs of `request`, `service` and the
    path's parts.

    FastAPI declares it, finds it and documents it; the body is parsed and checked here, once, by the rules of
    `json_body`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        first, *others = [*inspect.signature(self.endpoint).parameters, ""]
        if self.methods != {"POST"} or first in ("request", "service"):
            return super().get_route_handler()
        declared = TypeAdapter(get_type_hints(self.endpoint, include_extras=True)[first])

        async def handle(request: Request) -> Response:
            given = await parsed(await _json_of(request))
            try:
                body = declared.validate_python(given)
            except ValidationError as error:
                raise invalid(error) from None
            known = {"request": request, "service": request.app.state.service, **request.path_params}
            answer: Response = await self.endpoint(body, **{name: known[name] for name in others if name})
            return answer

        return handle


async def _json_of(request: Request) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Failure("unsupported", "send JSON with the header Content-Type: application/json")
    return await request.body()


def invalid(error: ValidationError) -> Failure:
    """The first thing wrong with a body, named by its place; what the client sent is never repeated."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"])) or "the body"
    return Failure("validation", f"{where}: {first['msg']}", param=where)


def new_router(tag: str, dialect: Dialect | None = None) -> APIRouter:
    """A router whose errors are told in `dialect`."""
    return APIRouter(tags=[tag], route_class=_Route, responses=failures(dialect) if dialect else None)


class Body(BaseModel):
    """A request body: unknown fields are ignored, as clients send each other's."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


async def service_of(request: Request) -> Service:
    """The service that serves `request`. A coroutine: FastAPI calls anything else in a thread, for every request."""
    service: Service = request.app.state.service
    return service


BUDGET_HEADER = "x-budget-ms"
DEGRADED_HEADER = "x-degraded"
Served = Annotated[Service, Depends(service_of)]
Document = str | dict[str, Any]
# Named, since `|` takes nothing that cannot be hashed.
Texts = TypeAliasType("Texts", Annotated[list[str], FailFast()])
Ids = TypeAliasType("Ids", Annotated[list[int], FailFast()])
IdRows = TypeAliasType("IdRows", Annotated[list[Ids], FailFast()])
TextRows = TypeAliasType("TextRows", Annotated[list[Texts], FailFast()])
Documents = Annotated[
    list[Document], FailFast(), Field(description="Texts, {text}, or {id} of passages of the collection")
]


def remaining(request: Request) -> float:
    """Seconds until the request's deadline."""
    deadline: float = request.state.deadline
    return deadline - asyncio.get_running_loop().time()


def listed(request: Request, given: str | list[Any]) -> list[Any]:
    """One text or a list, as a list; which it was is remembered for the metrics."""
    if isinstance(given, str):
        request.state.single = True
        return [given]
    return given


def client_of(request: Request) -> str:
    """Whose turn a request takes at the device."""
    return str(getattr(request.state, "client", ""))


def budget_of(request: Request) -> float | None:
    """Milliseconds after which a client of a compatible route would rather have fewer passages scored; None: all."""
    return milliseconds(request.scope, BUDGET_HEADER)


def degradation(degraded: str | None) -> dict[str, str]:
    """The header that tells of it."""
    return {} if degraded is None else {DEGRADED_HEADER: degraded}


def logistic(logit: float) -> float:
    """1 / (1 + e^-x) without overflow."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    small = math.exp(logit)
    return small / (1.0 + small)


def score(passage: Reranked, raw: bool) -> float:
    """A passage's score: its logit, or the logistic of it, in [0, 1]."""
    return passage.score if raw else logistic(passage.score)


async def rerank_documents(
    service: Service,
    request: Request,
    query: str,
    documents: list[Document],
    *,
    fields: list[str] | None = None,
    truncate: Truncate = "right",
    passage_tokens: int | None = None,
) -> tuple[RerankResult, list[str]]:
    """Rerank texts, objects with text, or stored ids; also each document's text, in the request's order."""
    if not documents:
        raise Failure("empty", "documents is empty; give at least one", param="documents")
    ids = [str(document["id"]) for document in documents if isinstance(document, dict) and _is_stored(document, fields)]
    if ids and len(ids) != len(documents):
        raise Failure("validation", "documents must be all texts or all ids of stored passages", param="documents")
    texts = None if ids else [_text(document, place, fields) for place, document in enumerate(documents)]
    result = await rerank_request(
        service, request, query, texts, ids=ids or None, truncate=truncate, passage_tokens=passage_tokens
    )
    if texts is not None:
        return result, texts
    by_place = {passage.index: passage.text or "" for passage in result.passages}
    return result, [by_place[place] for place in range(len(documents))]


async def rerank_request(
    service: Service, request: Request, query: str, texts: list[str] | None, **more: Any
) -> RerankResult:
    """`Service.rerank` for a request: its time, its client, its budget."""
    told = {"remaining": remaining(request), "client": client_of(request), "budget_ms": budget_of(request), **more}
    with service.lease() as lease:
        return await service.rerank(lease, query, texts, **told)


def _is_stored(document: dict[str, Any], fields: list[str] | None) -> bool:
    """Whether a document names a stored passage: it has an id and none of the fields that would be read."""
    return isinstance(document.get("id"), str) and not any(name in document for name in [*(fields or ()), "text"])


def _text(document: Document, place: int, fields: list[str] | None) -> str:
    if isinstance(document, str):
        return document
    values = [document.get(name) for name in fields or ["text"]]
    if not values or not all(isinstance(value, str) for value in values):
        wanted = " and ".join(fields or ["text"])
        raise Failure("validation", f"document {place} needs {wanted} as text", param="documents")
    return "\n".join(value for value in values if isinstance(value, str))
