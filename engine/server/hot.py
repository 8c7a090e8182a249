"""The routes that clients wait for, called without FastAPI's layers in between.

FastAPI declares the routes, checks what it is told of them, and writes the documentation. For a request of ours it then
only parses JSON, validates one model and calls one function, by some quarter of a thousand Python calls, which fall out
of the caches between two requests. So a good request is parsed, validated and answered by the same parts here; whatever
is wrong with one is left to FastAPI, which tells of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

import orjson
from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from .body_limits import replay
from .errors import Failure
from .routes.list_limits import check_counts
from .service import Service

Handler = Callable[[Request, Any], Coroutine[Any, Any, Response]]
_WRONG = object()
Endpoint = Callable[[Any, Request, Service], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class _Hot:
    route: APIRoute
    endpoint: Endpoint
    body: TypeAdapter[Any]


class Hot:
    """Answers POST requests to endpoints of the form `(body, request, service)`; all else goes to FastAPI."""

    def __init__(
        self, app: FastAPI, routes: Iterable[BaseRoute], service: Service, handlers: Mapping[type[Exception], Handler]
    ) -> None:
        """`routes` are the application's; `handlers` make the answers to what an endpoint may raise, by its class."""
        self._app = app
        self._service = service
        self._handlers = handlers
        posts = (route for route in routes if isinstance(route, APIRoute) and route.methods == {"POST"})
        self._routes = {route.path: hot for route in posts if (hot := _hot(route)) is not None}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hot = self._routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if hot is None or scope.get("root_path") or not _is_json(scope):
            return await self._app(scope, receive, send)
        sent = (await receive())["body"]  # whole, as `Bodies` hands it on
        body = self._read(hot, sent)
        if body is _WRONG:
            return await self._app(scope, replay(sent), send)
        scope["app"], scope["route"] = self._app, hot.route
        request = Request(scope, receive)
        try:
            reply = await hot.endpoint(body, request, self._service)
        except tuple(self._handlers) as error:
            handler = next(handler for kind, handler in self._handlers.items() if isinstance(error, kind))
            reply = await handler(request, error)
            # An engine that ended raises one stored error for ever: each raise would add frames that hold a body.
            error.__traceback__ = None
        await reply(scope, receive, send)

    def _read(self, hot: _Hot, sent: bytes) -> Any:
        """The validated body, or _WRONG; nothing of it is kept while FastAPI looks at it again."""
        try:
            parsed = orjson.loads(sent)
            check_counts(parsed, self._service.settings)
            return hot.body.validate_python(parsed)
        except (orjson.JSONDecodeError, Failure, ValidationError):
            return _WRONG


def _hot(route: APIRoute) -> _Hot | None:
    """The route's endpoint and what its body is; None where it takes anything else."""
    names = list(inspect.signature(route.endpoint).parameters)
    if names[1:] != ["request", "service"]:
        return None
    return _Hot(route, route.endpoint, TypeAdapter(get_type_hints(route.endpoint, include_extras=True)[names[0]]))


def _is_json(scope: Scope) -> bool:
    given = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    return bool(given.partition(b";")[0].strip().lower() == b"application/json")
