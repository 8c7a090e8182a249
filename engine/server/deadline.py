"""One request from its head to its answer: its body, how long it may take, and whether anybody still waits for it."""

from __future__ import annotations

import asyncio
import math

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .body_limits import Bodies, ClientGone
from .errors import Failure
from .in_flight import InFlight
from .json_response import send_failure
from .service import Service

TIMEOUT_HEADER = "x-request-timeout-ms"


class Deadlines:
    """Reads a request's body and lets the routes answer it.

    A request past its deadline is cancelled and gets 504, at the end of a drain 503; one whose client has left is
    cancelled too.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._bodies = Bodies(service.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            return await self._app(scope, receive, send)
        try:
            await self._serve(scope, receive, send)
        except Failure as failure:
            await send_failure(failure, scope, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        seconds = self._seconds(scope)
        loop, request, started = asyncio.get_running_loop(), InFlight(), False
        scope["state"]["deadline"] = loop.time() + seconds

        async def noting(message: Message) -> None:
            nonlocal started
            await send(message)  # it waits, and may be cancelled, only before it writes
            started = True

        alarm = loop.call_later(seconds, request.end, "late")
        self._service.in_flight.add(request)
        try:
            with self._bodies.hold() as held:
                body = await self._bodies.read(held, scope, receive)
                await self._answer(request, scope, receive, body, noting)
            return
        except asyncio.CancelledError:
            if not request.settle():
                raise
        finally:
            request.done.set_result(None)
            self._service.in_flight.discard(request)
            alarm.cancel()
        if request.ending == "gone":
            raise ClientGone
        if not started:
            raise late(seconds) if request.ending == "late" else aborted()

    async def _answer(self, request: InFlight, scope: Scope, receive: Receive, body: bytes, send: Send) -> None:
        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            request.end("gone")

        watcher = asyncio.ensure_future(watch())
        try:
            await self._app(scope, _replay(body), send)
        finally:
            watcher.cancel()

    def _seconds(self, scope: Scope) -> float:
        limit = self._service.settings.timeout_ms / 1e3
        asked = milliseconds(scope, TIMEOUT_HEADER)
        return limit if asked is None else min(asked / 1e3, limit)


def milliseconds(scope: Scope, header: str) -> float | None:
    """A header's positive number of milliseconds, None without it; raises Failure for anything else."""
    given = dict(scope["headers"]).get(header.encode())
    if given is None:
        return None
    try:
        asked = float(given)
    except ValueError:
        asked = math.nan
    if not 0 < asked < math.inf:
        raise Failure("validation", f"{header} must be a positive number of milliseconds", param=header)
    return asked


def _replay(body: bytes) -> Receive:
    """What gives a whole body in one message, and then waits."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if not messages:
            await asyncio.get_running_loop().create_future()  # `watch` hears of the client's going
        return messages.pop()

    return receive


def late(seconds: float) -> Failure:
    """What a request is told that was not done in its time."""
    return Failure("deadline", f"the request was not done within its {seconds * 1e3:.0f} ms; send less or allow more")


def aborted() -> Failure:
    """What a request is told that a drain ended."""
    return Failure("unavailable", "the server is going down", retry_after=5, close=True)
