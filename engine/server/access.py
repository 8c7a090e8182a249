"""The outermost layer: a request's id, one log line and its metrics, and an answer to errors nobody else caught."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import telemetry
from .body_limits import ClientGone
from .errors import failure_of
from .json_response import send_failure
from .logs import where
from .service import Service

log = logging.getLogger(__name__)
_SENT_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_CLIENT_GONE = 499
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_HARDENING = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]


class Access:
    """Every request passes here first and its answer last. Logs never hold text, queries, keys or unknown paths."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        start, method = time.perf_counter(), scope["method"]
        method = method if method in _METHODS else "other"  # a client may write anything there
        if method == "HEAD":  # as GET; uvicorn, whose own scope this leaves alone, sends no body
            scope = {**scope, "method": "GET"}
        request_id = _request_id(dict(scope["headers"]).get(b"x-request-id"))
        scope["state"] = {**scope.get("state", {}), "request_id": request_id, "method": method}
        with telemetry.request_span(scope) as span:
            status = await self._answer(scope, receive, send, start, request_id)
            telemetry.answered(span, method, _route(scope), status, request_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, start: float, request_id: str) -> int:
        status, recorded = 0, False

        def record() -> None:
            nonlocal recorded
            if not recorded:
                recorded = True
                self._record(scope, status, time.perf_counter() - start, request_id)

        async def marking(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], (b"x-request-id", request_id.encode()), *_HARDENING]
                message = {**message, "headers": headers}
            elif not message.get("more_body", False):
                record()  # before its last byte leaves: whoever has the answer finds it counted
            await send(message)

        try:
            await self._app(scope, receive, marking)
        except (ClientGone, asyncio.CancelledError) as error:
            status = _CLIENT_GONE
            self._service.metrics.cancelled.inc()
            if isinstance(error, asyncio.CancelledError):
                raise
        except Exception as error:
            # Its message may quote what the user sent, so the log gets its type and place.
            log.error("unexpected error", extra={"id": request_id, "error": where(error)})
            if not status:
                await send_failure(failure_of(error), scope, marking)
        finally:
            record()
        return status

    def _record(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route, state = _route(scope), scope["state"]
        self._service.metrics.answered(
            route, status, seconds, single=state.get("single", False), kind=state.get("failure")
        )
        if status >= 400 and (reason := state.get("reason")):
            self._service.metrics.rejected.labels(reason).inc()
        fields = {"id": request_id, "route": route, "status": status, "ms": round(seconds * 1e3, 2)}
        log.info("request", extra={"method": state["method"], **fields})


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", None) or "other"


def _request_id(sent: bytes | None) -> str:
    if sent is not None and _SENT_ID.fullmatch(sent):
        return sent.decode()
    return uuid.uuid4().hex
