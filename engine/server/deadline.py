"""How long a request may take, and who still waits for it: late, abandoned and aborted work is cancelled."""

from __future__ import annotations

import asyncio
import math

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import Failure
from .limits import ClientGone
from .replies import send_failure
from .service import Service

HEADER = "x-request-timeout-ms"


class Deadlines:
    """Runs the request as a task of its own: past its deadline it gets 504, at the end of a drain 503."""

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
        relay = _Relay(receive)
        started = [False]

        async def noting(message: Message) -> None:
            started[0] = True
            await send(message)

        task = asyncio.ensure_future(self._app(scope, relay.receive, noting))
        self._service.in_flight.add(task)
        task.add_done_callback(self._service.in_flight.discard)
        watcher = asyncio.ensure_future(relay.watch())
        try:
            await asyncio.wait({task, watcher}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            gone, late = watcher.done() and not task.done(), not task.done()
            task.cancel()
            await asyncio.wait({task})
        finally:
            task.cancel()
            watcher.cancel()
        if gone:
            raise ClientGone
        if not task.cancelled():
            return task.result()
        ending = (
            _late(seconds, close=not relay.is_through)
            if late
            else Failure("unavailable", "the server is going down", retry_after=5, close=True)
        )
        if not started[0]:
            await send_failure(ending, scope, send)

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


class _Relay:
    """Passes a request's messages on; once the body is through, `watch` alone reads, and returns when the client left.

    A server delivers `http.disconnect` only to somebody who awaits `receive`.
    """

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
