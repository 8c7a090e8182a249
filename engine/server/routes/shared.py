"""What the dialects share: bodies, types of their fields, scores, and what a request brings besides its body."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Coroutine
from contextlib import suppress
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, model_validator
from starlette.responses import Response
from typing_extensions import TypeAliasType

from ...config import shortened as quoted
from ...models.encoder import TextKind
from ..errors import Dialect, Failure
from ..response_schemas import failures
from ..service import Service
from .list_limits import check_counts


class _Request(Request):
    async def json(self) -> Any:
        """The body by orjson: no NaN, no lone surrogates, bounded nesting, a millisecond a megabyte."""
        if not hasattr(self, "_json"):
            try:
                self._json = orjson.loads(await self.body())
            except orjson.JSONDecodeError as error:
                # Its own exception keeps the whole document; FastAPI asks for the base class.
                raise json.JSONDecodeError(error.msg, "", 0) from None
        return self._json


class _Route(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            read = _Request(request.scope, request.receive)
            if request.method == "POST":
                with suppress(json.JSONDecodeError):  # FastAPI will say so
                    check_counts(await read.json(), request.app.state.service.settings)
            return await handler(read)

        return handle


def new_router(tag: str, dialect: Dialect | None = None) -> APIRouter:
    """A router whose bodies are read by orjson, and whose errors are told in `dialect`."""
    return APIRouter(tags=[tag], route_class=_Route, responses=failures(dialect) if dialect else None)


class Body(BaseModel):
    """A request body of another server's form: as those servers do, it ignores unknown fields, and null is no value."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _told(cls, fields: Any) -> Any:
        return (
            {name: value for name, value in fields.items() if value is not None} if isinstance(fields, dict) else fields
        )


class OwnBody(BaseModel):
    """A request body of our own form. Raises Failure for an unknown field: a filter that is misspelt is no filter."""

    model_config = ConfigDict(hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, fields: Any) -> Any:
        for name in fields if isinstance(fields, dict) else ():
            if name not in cls.model_fields:
                near = get_close_matches(name, cls.model_fields, 1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(cls.model_fields)}"
                raise Failure("validation", f"field {quoted(name)} is unknown; {hint}", param=name[:60])
        return fields


Parsed = TypeVar("Parsed", bound=BaseModel)


def parsed(model: type[Parsed], fields: dict[str, Any]) -> Parsed:
    """`fields` as `model`, where a route chose it by what they are; raises what FastAPI raises for a declared body."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_input=False, include_url=False)) from None


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
# What clients call the two kinds of text that models have prompts for; other uses have none.
KINDS: dict[str, TextKind | None] = {
    **dict.fromkeys(("query", "search_query", "retrieval.query"), "query"),
    **dict.fromkeys(("passage", "document", "search_document", "retrieval.passage"), "passage"),
    **dict.fromkeys(("classification", "clustering", "separation", "text-matching"), None),
}


def kind_of(name: str | None, field: str) -> TextKind | None:
    """The kind of text that a client calls `name`; raises Failure for a name of no client."""
    if name is None:
        return None
    if name not in KINDS:
        raise Failure("validation", f"{field} is unknown; known are {', '.join(KINDS)}", param=field)
    return KINDS[name]


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


def degradation(degraded: str | None) -> dict[str, str]:
    """The header that tells of it."""
    return {} if degraded is None else {DEGRADED_HEADER: degraded}


def logistic(logit: float) -> float:
    """1 / (1 + e^-x) without overflow."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    small = math.exp(logit)
    return small / (1.0 + small)


def scaled(logit: float, raw: bool) -> float:
    """A score as it is told: the logit itself, or the logistic of it, in [0, 1]."""
    return logit if raw else logistic(logit)


def usage(tokens: int) -> dict[str, int]:
    """Tokens that the model read, as OpenAI and its like count them."""
    return {"prompt_tokens": tokens, "total_tokens": tokens}
