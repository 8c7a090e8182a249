"""The requests that nearly all clients send, read and answered without h11.

A plain request is a POST whose whole head comes in one piece, with no other request behind it there, one Host, a
Content-Length and nothing that has a meaning between two ends of a connection beyond keeping or closing it. h11, in
Python, makes a third of the calls of a small search's way through the server; whatever is not plain is its business,
and so is everything that is wrong.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Scope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl

from .logs import where

log = logging.getLogger(__name__)
Headers = list[tuple[bytes, bytes]]
# What h11 takes too (RFC 9112), less escapes in the target, names and values with characters that clients do not send,
# and obsolete folding.
_HEAD = re.compile(rb"POST (/[!-$&-~]*) HTTP/1\.1\r\n((?:[0-9A-Za-z_-]+:[ -~]*\r\n)+)\r\n")
_SPECIAL = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"te", b"trailer"})
_LONGEST_LENGTH = 15
LEAVING = "tandem.leaving"
"""The extension of a plain request's scope that takes a function to be called when the client leaves, or None."""
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A plain request's head: `headers` with names in lower case, `length` of the body, `size` of the head in bytes."""

    target: bytes
    headers: Headers
    length: int
    size: int


def read_head(data: bytes, most_bytes: int, most_headers: int) -> RequestHead | None:
    """The head that `data` begins with; None where it is not plain, not whole, over a limit, or where another
    request follows its body."""
    found = _HEAD.match(data)
    if found is None or found.end() > most_bytes:
        return None
    headers: Headers = []
    hosts, lengths = 0, []
    for line in found[2].split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip()
        if name == b"content-length":
            lengths.append(value)
        elif name == b"host":
            hosts += 1
        elif name in _SPECIAL or (name == b"connection" and value.lower() not in (b"keep-alive", b"close")):
            return None
        headers.append((name, value))
    if hosts != 1 or len(lengths) != 1 or len(headers) > most_headers:
        return None
    if not lengths[0].isdigit() or len(lengths[0]) > _LONGEST_LENGTH:
        return None
    head = RequestHead(found[1], headers, int(lengths[0]), found.end())
    return head if len(data) <= head.size + head.length else None


class Exchange:
    """One plain request and its answer: what uvicorn calls a cycle, with the attributes that it and `Guarded` use."""

    def __init__(
        self, head: RequestHead, scope: Scope, transport: asyncio.Transport, flow: FlowControl, defaults: Headers,
        done: Callable[[], None],
    ) -> None:  # fmt: skip
        """`scope` is the application's; `defaults` are headers of every answer; `done` is told when it was written."""
        self.scope = scope
        scope["extensions"] = {LEAVING: self.tell_leaving}
        self.keep_alive = not any(name == b"connection" and value.lower() == b"close" for name, value in head.headers)
        self.disconnected = self.response_started = self.response_complete = False
        self.message_event = asyncio.Event()
        self._transport = transport
        self._flow = flow
        self._defaults = defaults
        self._done = done
        self._body = bytearray()
        self._missing = head.length
        self._start: Message | None = None
        self._unsent = 0
        self._leaving: Callable[[], None] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all of the body has come."""
        return self._missing == 0

    def feed(self, data: bytes) -> bytes:
        """Take what `data` holds of the body; what is left belongs to another request."""
        part = data[: self._missing]
        self._missing -= len(part)
        self._body += part
        # What has come whole is bounded; while reading is paused nobody would hear of the client's going.
        if self._missing and len(self._body) > HIGH_WATER_LIMIT:
            self._flow.pause_reading()
        self.message_event.set()
        return data[len(part) :]

    def tell_leaving(self, do: Callable[[], None] | None) -> None:
        """Call `do` when the client has left, which it may have."""
        self._leaving = do
        if do is not None and self.disconnected:
            do()

    def left(self) -> None:
        """The connection is lost."""
        if self._leaving is not None and not self.response_complete:
            self._leaving()

    async def run(self, app: ASGIApp) -> None:
        """Let `app` answer; when it does not, the answer is a 500, or the connection ends where it has begun one."""
        try:
            await app(self.scope, self.receive, self.send)
        except BaseException as error:  # as uvicorn does: a task's exception would be nobody's
            log.error("the application failed", extra={"error": where(error)})
        else:
            if not (self.response_complete or self.disconnected):
                log.error("the application did not answer whole")
        try:
            if not (self.response_started or self.disconnected):
                self.keep_alive, self._start = False, None
                await self.send({"type": "http.response.start", "status": 500, "headers": [(b"content-length", b"0")]})
                await self.send({"type": "http.response.body"})
        finally:
            if not self.response_complete:
                self._transport.close()
            # The scope knows this object and this object the scope: without a knot their memory is free at once.
            self.scope["extensions"].clear()
            self._body, self._start, self._leaving = bytearray(), None, None

    async def receive(self) -> Message:
        """What has come of the body; behind it, the client's going or the answer's end."""
        if not self.disconnected and not self.response_complete:
            self._flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self._body = bytes(self._body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self._missing > 0}

    async def send(self, message: Message) -> None:
        """Write the answer: its head with the first of its body, in one piece. Its head must say its length."""
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start" and self._start is None:
            self._start = message
            return
        if message["type"] != "http.response.body" or self._start is None or self.response_complete:
            raise RuntimeError(f"{message['type']} is out of place")
        body, more = message.get("body", b""), message.get("more_body", False)
        head = b"" if self.response_started else self._compose(self._start)
        self._unsent -= len(body)
        if self._unsent < 0 or (self._unsent > 0 and not more):
            raise RuntimeError("the answer is not as long as its head says")
        self.response_started = True
        self._transport.writelines((head, body))
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self._transport.close()
            self._done()

    def _compose(self, start: Message) -> bytes:
        """The answer's head; raises RuntimeError where a value would end its line, or where it has no length."""
        parts = [_STATUS_LINES[start["status"]]]
        length = None
        for name, value in (*self._defaults, *start["headers"]):
            if name == b"content-length":
                length = int(value)
            elif name == b"connection":
                self.keep_alive = False
                continue
            if b"\r" in value or b"\n" in value:
                raise RuntimeError(f"a line break in the answer's header {name.decode()}")
            parts += (name, b": ", value, b"\r\n")
        if length is None:
            raise RuntimeError("the answer has no Content-Length")
        self._unsent = length
        parts.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        return b"".join(parts)
