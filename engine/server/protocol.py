"""HTTP/1.1 as uvicorn reads it, with an end to what a client may hold before and after its request is ours to limit.

Bodies and requests have limits of their own (`limits.py`, `admission.py`); here are the connection's: how many there
are, how long a request's head may take, how large it is, and how long an answer may wait to be read.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Callable
from typing import Any

import h11
import orjson
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from .errors import Failure
from .settings import ServerSettings

log = logging.getLogger(__name__)
# A request's line and headers. Requests have 5 to 15 headers of some hundred bytes together.
MAX_HEADER_BYTES = 32 * 1024
MAX_HEADERS = 100
KEEP_ALIVE_SECONDS = 30
# A client that reads nothing of its answer so long has gone, or wants us to keep it.
UNREAD_SECONDS = 30
# How often uvicorn looks whether it should end; the drain adds it to its own time.
BACKSTOP_SECONDS = 5
# Files that the process opens beside its clients' connections: shards, models, libraries, the worker's socket.
OTHER_FILES = 256
_HEAD_TOO_LARGE = 431


class Config(uvicorn.Config):
    """uvicorn's settings for one listener, and what its connections are held to.

    refused: told the reason, for the metrics, when a connection is ended before a request came of it
    """

    def __init__(
        self, app: ASGIApp, settings: ServerSettings, refused: Callable[[str], None] = lambda reason: None
    ) -> None:
        # h11 rather than httptools, which bounds no headers.
        options: dict[str, Any] = {
            "http": Guarded, "ws": "none", "lifespan": "off", "log_config": None, "access_log": False,
            "server_header": False, "date_header": True, "proxy_headers": False, "backlog": 2048,
            "timeout_keep_alive": KEEP_ALIVE_SECONDS, "h11_max_incomplete_event_size": MAX_HEADER_BYTES,
            "timeout_graceful_shutdown": int(settings.drain_timeout_ms / 1e3) + BACKSTOP_SECONDS,
        }  # fmt: skip
        super().__init__(app, **options)
        self.max_connections = settings.max_connections
        self.header_seconds = settings.header_timeout_ms / 1e3
        self.refused = refused


class Guarded(H11Protocol):
    """One connection."""

    config: Config

    def __init__(self, config: uvicorn.Config, *arguments: Any, **named: Any) -> None:
        super().__init__(config, *arguments, **named)
        self.conn: _Connection = _Connection(h11.SERVER, MAX_HEADER_BYTES)
        self._head = _Alarm(self.loop, self._head_late)
        self._unread = _Alarm(self.loop, self._abort)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.config.max_connections:
            full = "the server has as many connections as it holds"
            self._refuse(Failure("unavailable", full, retry_after=1), "connections")
        else:
            self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head.off()
        self._unread.off()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # what was refused goes on sending
        super().data_received(data)
        self._watch_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_head()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what is no request; h11 knows whether it was only too large."""
        if self.conn.refused == _HEAD_TOO_LARGE:
            limit = f"{MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes"
            failure = Failure("too_large", f"the request's head exceeds {limit}", status_override=_HEAD_TOO_LARGE)
            self._refuse(failure)
        else:
            self._refuse(Failure("validation", "this is no HTTP/1.1 request", status_override=400))

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self._abort()  # closing would wait until it is read
        else:
            super().timeout_keep_alive_handler()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread.set(UNREAD_SECONDS)

    def resume_writing(self) -> None:
        self._unread.off()
        super().resume_writing()

    def _watch_head(self) -> None:
        """Give the head of the next request its time from the connection's begin or its own first byte."""
        if (
            self.conn.their_state is h11.IDLE
            and not self.transport.is_closing()
            and (self.cycle is None or self.conn.trailing_data[0])
        ):
            self._head.set(self.config.header_seconds)
        else:
            self._head.off()

    def _head_late(self) -> None:
        if self.transport.is_closing():
            return
        seconds = self.config.header_seconds
        if self.conn.trailing_data[0]:
            self._refuse(
                Failure("body_timeout", f"the headers did not come within {seconds:g} seconds"), "slow_headers"
            )
        else:
            self.transport.close()  # nothing was asked, so nothing is answered

    def _refuse(self, failure: Failure, reason: str | None = None) -> None:
        """Answer in our own dialect, since no path is known for certain, and end the connection."""
        self.config.refused(reason or failure.kind)
        self._head.off()
        status, body = failure.status("tandem"), orjson.dumps(failure.body("tandem", ""))
        told = {**failure.headers(), "content-type": "application/json", "content-length": str(len(body))}
        headers = [(name.encode(), value.encode()) for name, value in {**told, "connection": "close"}.items()]
        for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            if sent := self.conn.send(event):
                self.transport.write(sent)
        self.transport.close()

    def _abort(self) -> None:
        self.config.refused("unread")
        self.transport.abort()


class _Alarm:
    """Does `do` once, `set` so many seconds ago; setting it again while it runs changes nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, do: Callable[[], None]) -> None:
        self._loop = loop
        self._do = do
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._ring)

    def off(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        self._do()


class _Connection(h11.Connection):
    """h11's, which bounds a head that is not whole yet; this one bounds those that came whole too.

    refused: the status that its last error suggested
    """

    refused = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                _check_head(event)
        except h11.RemoteProtocolError as error:
            self.refused = error.error_status_hint
            raise
        return event


def _check_head(request: h11.Request) -> None:
    headers = list(request.headers)
    size = len(request.target) + sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        raise h11.RemoteProtocolError("the head is too large", error_status_hint=_HEAD_TOO_LARGE)


def make_room(connections: int) -> None:
    """Raise the soft limit of open files, often 1,024, to what so many connections need; warn where that is refused.

    Without room `accept` fails, and whoever comes next waits for a connection of others to end.
    """
    wanted = connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
    if reachable < wanted:
        log.warning(
            "fewer files may be open than connections are allowed", extra={"files": reachable, "wanted": wanted}
        )
