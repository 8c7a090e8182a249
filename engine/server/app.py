"""The application: routes, and around them the layers that every request passes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import cast

from fastapi import APIRouter, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import InferenceError, StorageError, TandemError
from .access import Access
from .auth import Auth
from .deadline import Deadlines
from .errors import Failure, Kind, failure_of
from .json_response import Json, failure_reply
from .paths import Paths, nearest
from .routes import ROUTERS, admin, probes
from .service import Service
from .settings import ServerSettings, loopback

log = logging.getLogger(__name__)
_KINDS: dict[int, tuple[Kind, str]] = {
    404: ("not_found", "there is no such route"),
    405: ("method", "this route has no such method"),
}


def create_app(service: Service) -> ASGIApp:
    """The whole server as one ASGI application."""
    guarded = Auth(Deadlines(_application("Tandem", service, ROUTERS), service), service.settings)
    return Paths(Access(_cors(guarded, service.settings), service))


def create_admin(service: Service, stop: Callable[[], None]) -> ASGIApp:
    """The second listener: probes and metrics without a key, and /admin, which needs one where there are keys.

    `stop` begins the going down.
    """
    routes = _application("Tandem: operation", service, (probes.router, admin.router))
    routes.state.stop = stop
    settings = service.settings
    app = Deadlines(routes, service)
    open_to_all = Auth(app, settings, keyless=True, any_host=not loopback(settings.admin_host))
    guarded = Auth(app, settings)

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
        exception_handlers={
            Failure: _failure, TandemError: _engine_error, HTTPException: _http_error, Exception: _failure,
        },
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
    if isinstance(error, StorageError):
        log.error("the collection cannot be written", extra={"error": str(error)})
    if isinstance(error, InferenceError):
        service.metrics.errors.inc()
        log.warning("a model failed", extra={"id": request.state.request_id})
    reply = failure_reply(failure_of(error, service.paths), request.scope)
    # An engine that ended raises one stored error for ever: each raise would add frames that hold a body.
    error.__traceback__ = None
    return reply


async def _http_error(request: Request, error: Exception) -> Response:
    refused = cast(HTTPException, error)
    kind, message = _KINDS.get(refused.status_code, ("internal", "the request was refused"))
    if kind == "not_found" and (near := nearest(request.url.path, request.app.state.paths)):
        message = f"{message}; did you mean {near}?"
    reply = failure_reply(Failure(kind, message, status_override=refused.status_code), request.scope)
    reply.headers.update(refused.headers or {})  # Allow
    return reply
