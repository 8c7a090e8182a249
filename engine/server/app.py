"""The application: routes, and around them the layers that every request passes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import cast

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import InferenceError, TandemError
from .access import Access
from .auth import Auth
from .body_limits import Bodies
from .deadline import Deadlines
from .errors import Failure, Kind, failure_of
from .hot import Handler, Hot
from .json_response import Json, failure_reply
from .paths import Paths, nearest
from .routes import ROUTERS, admin, probes
from .service import Service
from .settings import ServerSettings, loopback

log = logging.getLogger(__name__)
_KINDS: dict[int, Kind] = {404: "not_found", 405: "method", 400: "validation"}


def create_app(service: Service, routes: ASGIApp | None = None) -> ASGIApp:
    """The whole server as one ASGI application; `routes` when they are there already."""
    bodies = Bodies(routes or create_routes(service), service.settings)
    guarded = Auth(Deadlines(bodies, service), service.settings)
    return Paths(Access(_cors(guarded, service.settings), service))


def create_routes(service: Service) -> Hot:
    """The routes alone, without the layers that guard them."""
    app = _application("Tandem", service, ROUTERS)
    return Hot(app, [route for router in ROUTERS for route in router.routes], service, _HANDLERS)


def create_admin(service: Service, stop: Callable[[], None]) -> ASGIApp:
    """The second listener: probes and metrics without a key, and /admin, which needs one where there are keys.

    `stop` begins the going down.
    """
    app = _application("Tandem: operation", service, (probes.router, admin.router))
    app.state.stop = stop
    settings = service.settings
    open_to_all = Auth(app, settings, keyless=True, any_host=not loopback(settings.admin_host))
    guarded = Auth(Bodies(app, settings), settings)

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        inner = guarded if scope.get("path", "").startswith("/admin/") else open_to_all
        await inner(scope, receive, send)

    return Paths(Access(dispatch, service))


def _cors(app: ASGIApp, settings: ServerSettings) -> ASGIApp:
    """Lets pages of the allowed origins in. Around `Auth`: a preflight brings no key, and pages read errors too."""
    if not settings.cors_allow_origins:
        return app
    return CORSMiddleware(
        app, allow_origins=settings.cors_allow_origins, allow_methods=["GET", "POST"], allow_headers=["*"],
        expose_headers=["x-request-id", "x-degraded", "retry-after"],
    )  # fmt: skip


def _application(title: str, service: Service, routers: Sequence[APIRouter]) -> FastAPI:
    app = FastAPI(
        title=title, summary="Two-stage retrieval: recall, then rerank, inside a time budget.",
        docs_url=None, redoc_url=None, redirect_slashes=False, default_response_class=Json,
        exception_handlers={**cast(dict[int | type[Exception], Handler], _HANDLERS), Exception: _failure},
    )  # fmt: skip
    app.state.service = service
    app.state.paths = sorted({getattr(route, "path", "") for router in routers for route in router.routes})
    for router in routers:
        app.include_router(router)
    return app


async def _failure(request: Request, failure: Exception) -> Response:
    return failure_reply(failure_of(failure), request.scope)


async def _engine_error(request: Request, error: Exception) -> Response:
    service: Service = request.app.state.service
    if isinstance(error, InferenceError):
        service.metrics.errors.inc()
        log.warning("a model failed", extra={"id": request.state.request_id})
    current = service.host.current
    return failure_reply(failure_of(error, "" if current is None else current.facts.path), request.scope)


async def _invalid(request: Request, error: Exception) -> Response:
    """The first thing wrong with a body, named by its place; what the client sent is never repeated."""
    first = cast(RequestValidationError, error).errors()[0]
    parts = [str(part) for part in first["loc"] if part != "body"]
    if first["type"] == "json_invalid":
        failure = Failure("validation", "the body is not valid JSON")
    elif not parts and request.headers.get("content-type", "").partition(";")[0] != "application/json":
        failure = Failure("unsupported", "send JSON with the header Content-Type: application/json")
    else:
        where = ".".join(parts) or "the body"
        failure = Failure("validation", f"{where}: {first['msg']}", param=where)
    return failure_reply(failure, request.scope)


async def _http_error(request: Request, error: Exception) -> Response:
    status = cast(HTTPException, error).status_code
    near = nearest(request.url.path, request.app.state.paths)
    messages = {
        404: "there is no such route" + (f"; did you mean {near}?" if near else ""),
        405: "this route has no such method",
        400: "the body cannot be read",
    }
    kind = _KINDS.get(status, "internal")
    failure = Failure(kind, messages.get(status, "the request was refused"), status_override=status)
    reply = failure_reply(failure, request.scope)
    reply.headers.update(cast(HTTPException, error).headers or {})  # Allow
    return reply


_HANDLERS: dict[type[Exception], Handler] = {
    Failure: _failure,
    TandemError: _engine_error,
    RequestValidationError: _invalid,
    HTTPException: _http_error,
}
