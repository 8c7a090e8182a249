"""What a body may be: counted as it comes in, never believed, whole within a time; compressed ones are refused."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import Failure
from .json_response import send_failure
from .settings import ServerSettings


class ClientGone(Exception):
    """The client hung up before its answer."""


class Bodies:
    """Reads the whole body within its limits and hands it on in one message."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._limit = settings.max_body_bytes
        self._seconds = settings.body_timeout_ms / 1e3
        self._room = settings.max_buffered_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            return await self._app(scope, receive, send)
        taken = [0]
        try:
            body = await self._read(scope, receive, taken)
            await self._app(scope, replay(body), send)
        except Failure as failure:
            await send_failure(failure, scope, send)
        finally:
            self._room += taken[0]

    async def _read(self, scope: Scope, receive: Receive, taken: list[int]) -> bytes:
        headers = dict(scope["headers"])
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
            raise Failure("unsupported", "compressed requests are refused; send plain JSON", close=True)
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared[:20]) > self._limit:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._seconds):
                return await self._collect(receive, taken)
        except TimeoutError:
            raise Failure(
                "body_timeout", f"the body did not come within {self._seconds:g} seconds", close=True
            ) from None

    async def _collect(self, receive: Receive, taken: list[int]) -> bytes:
        chunks: list[bytes] = []
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            if taken[0] + len(chunk) > self._limit:
                raise self._too_large()
            if len(chunk) > self._room:
                raise Failure(
                    "overloaded", "too many bodies are held already; try again later", retry_after=1, close=True,
                    reason="bodies",
                )  # fmt: skip
            taken[0] += len(chunk)
            self._room -= len(chunk)
            chunks.append(chunk)
            more = message.get("more_body", False)
        return b"".join(chunks)

    def _too_large(self) -> Failure:
        return Failure("too_large", f"the body exceeds {self._limit} bytes; send fewer texts at once", close=True)


def replay(body: bytes) -> Receive:
    """What gives a whole body in one message, and then waits."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        never: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await never  # the deadline layer watches for the client's going
        raise ClientGone

    return receive
