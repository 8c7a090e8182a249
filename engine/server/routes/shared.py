"""What the dialects share: bodies, types of their fields, scores, and what a request brings besides its body."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar, get_type_hints

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, FailFast, Field, TypeAdapter, ValidationError, model_validator
from starlette.responses import Response
from typing_extensions import TypeAliasType

from ...config import shortened as quoted
from ...scoring.scale import logistic
from ...text.prompting import PromptWish
from ..errors import Dialect, Failure
from ..json_body import parsed
from ..response_schemas import failures
from ..service import Service
from ..target import Target


class _Route(APIRoute):
    """A route whose POST or DELETE endpoint takes its body first, and then by name what it needs of `request`,
    `service` and the path's parts.

    FastAPI declares it, finds it and documents it; the body is parsed and checked here, once, by the rules of
    `json_body`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        names = list(inspect.signature(self.endpoint).parameters)
        without = {"request", "service", *self.param_convertors}
        if not (self.methods or set()) <= {"POST", "DELETE"} or not names or names[0] in without:
            return super().get_route_handler()
        first, *others = names
        declared = TypeAdapter(get_type_hints(self.endpoint, include_extras=True)[first])

        async def handle(request: Request) -> Response:
            given = await parsed(await _json_of(request))
            request.state.model = given.get("model") if isinstance(given, dict) else None
            try:
                body = declared.validate_python(given)
            except ValidationError as error:
                raise invalid(error) from None
            known = {"request": request, "service": request.app.state.service, **request.path_params}
            answer: Response = await self.endpoint(body, **{name: known[name] for name in others})
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
    """A request body of another server's form: as those servers do, it ignores unknown fields, and null is no value."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _told(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value is not None}


class Prompted(Body):
    """What may stand around the texts of a request, in place of the model's own."""

    prompt_name: str | None = Field(
        default=None, description="query, passage, or another name that the model gives one of its prompts"
    )
    prompt: str | None = Field(default=None, description="The prompt itself; empty: none")
    instruction: str | None = Field(default=None, description="The task in words, for a model that takes one")

    @property
    def wish(self) -> PromptWish:
        """The three; raises InputError for what is none."""
        return PromptWish(self.prompt_name, self.prompt, self.instruction)


class OwnBody(BaseModel):
    """A request body of our own form. Raises Failure for an unknown field: a filter that is misspelt is no filter."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, fields: Any) -> Any:
        for name in fields if isinstance(fields, dict) else ():
            if name not in cls.model_fields:
                near = get_close_matches(name[:60], cls.model_fields, 1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(cls.model_fields)}"
                raise Failure("validation", f"field {quoted(name)} is unknown; {hint}", param=name[:60])
        return fields


Chosen = TypeVar("Chosen", bound=BaseModel)


def as_body(model: type[Chosen], fields: dict[str, Any]) -> Chosen:
    """`fields` as `model`, where a route chose it by what they are. Raises Failure."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise invalid(error) from None


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


Many = TypeVar("Many", bound=Sequence[Any])


def filled(values: Many, field: str) -> Many:
    """`values`; raises Failure where there are none."""
    if not values:
        raise Failure("empty", f"{field} is empty; give at least one", param=field)
    return values


def texts_of(request: Request, given: str | list[Any], field: str) -> list[str]:
    """One text or a list of texts, as a list; raises Failure for none and for token ids."""
    if isinstance(given, str):
        request.state.single = True  # for the metrics
        return [given]
    if not all(isinstance(text, str) for text in filled(given, field)):
        raise Failure(
            "validation",
            f"{field} has token ids; they are of another tokenizer than this model's, so send texts (LangChain: "
            "OpenAIEmbeddings(check_embedding_ctx_length=False))",
            param=field,
            status_override=400,
        )
    return given


def remaining(request: Request) -> float:
    """Seconds until the request's deadline."""
    deadline: float = request.state.deadline
    return deadline - asyncio.get_running_loop().time()


def collection_of(request: Request) -> str | None:
    """The collection that a request's path names; None: the first one."""
    name: str | None = request.path_params.get("collection")
    return name


def target_of(request: Request) -> Target:
    """The collection that a request's path names, and the model that its path or its body does."""
    model = request.path_params.get("model") or getattr(request.state, "model", None)
    return Target(collection_of(request), model if isinstance(model, str) else None)


def client_of(request: Request) -> str:
    """Whose turn a request takes at the device."""
    return str(getattr(request.state, "client", ""))


def degradation(degraded: str | None) -> dict[str, str]:
    """The header that tells of it."""
    return {} if degraded is None else {DEGRADED_HEADER: degraded}


def scaled(logit: float, raw: bool) -> float:
    """A score as it is told: the logit itself, or the logistic of it, in [0, 1]."""
    return logit if raw else logistic(logit)


def usage(tokens: int) -> dict[str, int]:
    """Tokens that the model read, as OpenAI and its like count them."""
    return {"prompt_tokens": tokens, "total_tokens": tokens}
