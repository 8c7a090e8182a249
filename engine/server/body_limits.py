"""What a body may be: counted as it comes in, never believed, whole within a time; compressed ones are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Receive, Scope

from .errors import Failure
from .settings import ServerSettings


class ClientGone(Exception):
    """The client hung up before its answer."""


class Bodies:
    """The bodies of all requests that are in flight."""

    def __init__(self, settings: ServerSettings) -> None:
        self._limit = settings.max_body_bytes
        self._seconds = settings.body_timeout_ms / 1e3
        self._room = settings.max_buffered_bytes

    @contextmanager
    def hold(self) -> Iterator[_Held]:
        """Room for one body, given back at the end."""
        held = _Held()
        try:
            yield held
        finally:
            self._room += held.taken

    async def read(self, held: _Held, scope: Scope, receive: Receive) -> bytes:
        """The whole body; raises Failure for one that is too large, too slow or compressed, ClientGone without it."""
        headers = dict(scope["headers"])
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
            raise Failure("unsupported", "compressed requests are refused; send plain JSON")
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared[:20]) > self._limit:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._seconds):
                return await self._collect(held, receive)
        except TimeoutError:
            why = f"the body did not come within {self._seconds:g} seconds"
            raise Failure("body_timeout", why, close=True) from None

    async def _collect(self, held: _Held, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            if held.taken + len(chunk) > self._limit:
                raise self._too_large()
            if len(chunk) > self._room:
                full = "too many bodies are held already; try again later"
                raise Failure("overloaded", full, retry_after=1, reason="bodies")
            held.taken += len(chunk)
            self._room -= len(chunk)
            chunks.append(chunk)
            more = message.get("more_body", False)
        return b"".join(chunks)

    def _too_large(self) -> Failure:
        return Failure("too_large", f"the body exceeds {self._limit} bytes; send fewer texts at once")


class _Held:
    taken = 0
    """Bytes."""
