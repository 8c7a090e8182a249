"""How long a request may take, and who still waits for it: late, abandoned and aborted work is cancelled."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .body_limits import ClientGone
from .errors import Failure
from .json_response import send_failure
from .plain import LEAVING
from .request_task import InFlight
from .service import Service

HEADER = "x-request-timeout-ms"


class Deadlines:
    """Cancels a request past its deadline, which gets 504, at the end of a drain, 503, and when its client has left."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            return await self._app(scope, receive, send)
        try:
            seconds = self._seconds(scope)
        except Failure as failure:
            return await send_failure(failure, scope, send)
        loop = asyncio.get_running_loop()
        scope["state"]["deadline"] = loop.time() + seconds
        relay, started = _Relay(receive), False

        async def noting(message: Message) -> None:
            nonlocal started
            await send(message)  # it waits, and may be cancelled, only before it writes
            started = True

        request = InFlight()
        self._service.in_flight.add(request)
        alarm = loop.call_later(seconds, request.end, "late")
        forget = _watch(scope, relay, request)
        try:
            return await self._app(scope, relay.receive, noting)
        except asyncio.CancelledError:
            if not request.settle():
                raise
        finally:
            request.done.set_result(None)
            self._service.in_flight.discard(request)
            alarm.cancel()
            forget()
        if request.ending == "gone":
            raise ClientGone
        if not started:
            aborted = Failure("unavailable", "the server is going down", retry_after=5, close=True)
            late = request.ending == "late"
            await send_failure(_late(seconds, close=not relay.is_through) if late else aborted, scope, send)

    def _seconds(self, scope: Scope) -> float:
        limit = self._service.settings.timeout_ms / 1e3
        asked = milliseconds(scope, HEADER)
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
        raise Failure("validation", f"{header} must be a positive number of milliseconds", param=header, close=True)
    return asked


def _watch(scope: Scope, relay: _Relay, request: InFlight) -> Callable[[], object]:
    """End `request` when its client leaves; the function returned stops the watching.

    A server delivers `http.disconnect` only to somebody who awaits `receive`, which takes a task; ours tells at once
    while it reads, and it reads unless more than 64 KiB of further requests wait behind this one.
    """
    if (tell := scope.get("extensions", {}).get(LEAVING)) is not None:
        tell(partial(request.end, "gone"))
        return lambda: tell(None)
    watcher = asyncio.ensure_future(relay.watch())
    watcher.add_done_callback(lambda done: None if done.cancelled() else request.end("gone"))
    return watcher.cancel


class _Relay:
    """Passes a request's messages on; once the body is through, `watch` alone reads, until the client leaves."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._through = asyncio.Event()

    @property
    def is_through(self) -> bool:
        """Whether the whole body has come."""
        return self._through.is_set()

    async def receive(self) -> Message:
        message = await self._receive()
        if not message.get("more_body", False):
            self._through.set()
        return message

    async def watch(self) -> None:
        await self._through.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _late(seconds: float, *, close: bool) -> Failure:
    why = f"the request was not done within its {seconds * 1e3:.0f} ms; send less or allow more"
    return Failure("deadline", why, close=close)
