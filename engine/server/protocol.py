"""HTTP/1.1 as uvicorn and h11 read it, with an end to what a client may hold before and after its request is ours.

What nearly all clients send is read without h11 (`plain.py`), under the same alarms.

Bodies and requests have limits of their own (`body_limits.py`, `admission.py`); here are the connection's: how many
there are, how long a request's head may take, how large it is, and how long an answer may wait to be read. Whatever
comes, a connection either has a request that is being served or an alarm that will end it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

import h11
import orjson
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from .bounded import HEAD_TOO_LARGE, MAX_HEADER_BYTES, MAX_HEADERS, Bounded
from .connection import Alarm, Counting, unsent
from .errors import Failure
from .plain import Exchange, read_head
from .settings import ServerSettings

KEEP_ALIVE_SECONDS = 30.0
# A client that takes less than LEAST_READ bytes of its answer in so long has gone, or wants us to keep it.
UNREAD_SECONDS, LEAST_READ = 30.0, 64 * 1024
# The same while the server goes down.
UNREAD_AT_THE_END = 2.0
# A refused client is listened to so long after its answer: closing at once, with bytes of it unread, the system would
# send a reset, which lets it lose the answer.
LINGER_SECONDS = 1.0
# Connections beyond the limit that are told so at once; the next are reset: a flood of them must not use up the files.
MOST_TOLD = 64
# How often uvicorn looks whether it should end; the drain adds it to its own time.
BACKSTOP_SECONDS = 5


class Config(uvicorn.Config):
    """uvicorn's settings for one listener, and what its connections are held to.

    connections: how many there may be; admitted: how many there are
    refused: told the reason, for the metrics, when one is ended before a request came of it
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ServerSettings,
        refused: Callable[[str], None] = lambda reason: None,
        connections: int | None = None,
    ) -> None:
        # h11 rather than httptools, which bounds no headers and takes the body of a POST that offers HTTP/2 for another
        # request.
        options: dict[str, Any] = {
            "http": Guarded, "ws": "none", "lifespan": "off", "log_config": None, "access_log": False,
            "server_header": False, "date_header": True, "proxy_headers": False, "backlog": 2048,
            "h11_max_incomplete_event_size": MAX_HEADER_BYTES,
            "timeout_graceful_shutdown": int(settings.drain_timeout_ms / 1e3) + BACKSTOP_SECONDS,
        }  # fmt: skip
        super().__init__(app, **options)
        self.max_connections = connections or settings.max_connections
        self.admitted = 0
        self.header_seconds = settings.header_timeout_ms / 1e3
        self.refused = refused


class Guarded(H11Protocol):
    """One connection."""

    config: Config

    def __init__(self, config: uvicorn.Config, *arguments: Any, **named: Any) -> None:
        super().__init__(config, *arguments, **named)
        self.logger = _quiet
        self.conn: Bounded = Bounded(h11.SERVER, MAX_HEADER_BYTES)
        self._head = Alarm(self.loop, self._head_late)
        self._idle = Alarm(self.loop, self._idle_late)
        self._unread = Alarm(self.loop, self._unread_late)
        self._linger = Alarm(self.loop, self._close)
        self._unsent = self._taken = 0
        self._held = b""
        self._patience = UNREAD_SECONDS
        self._full = False
        self._over = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._bare = transport
        self._counting = Counting(transport, self._close_gently)
        super().connection_made(self._counting)  # type: ignore[arg-type]
        # Told so when it asks something, or it would hear of a reset.
        self._full = self.config.admitted >= self.config.max_connections
        if not self._full:
            self.config.admitted += 1
        elif len(self.connections) > self.config.max_connections + MOST_TOLD:
            self.config.refused("connections")
            transport.abort()
        else:
            self._linger.set(LINGER_SECONDS)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self.config.admitted -= not self._full
        for alarm in (self._head, self._idle, self._unread, self._linger):
            alarm.off()
        super().connection_lost(exc)
        if self._exchange is not None:
            self._exchange.left()

    def data_received(self, data: bytes) -> None:
        if self._over or self.transport.is_closing():
            return  # what was refused goes on sending
        if self._full:
            full = "the server has as many connections as it holds"
            return self._refuse(Failure("unavailable", full, retry_after=random.randint(1, 3)), "connections")
        exchange = self._exchange
        if exchange is not None and not exchange.response_complete:
            self._feed(exchange, data)
        elif not self._begin(data):
            super().data_received(data)
        self._watch()

    @property
    def _exchange(self) -> Exchange | None:
        """The last request where it was a plain one."""
        return self.cycle if isinstance(self.cycle, Exchange) else None

    def _begin(self, data: bytes) -> bool:
        """Serve a plain request that `data` begins with, where h11 is in the middle of nothing."""
        conn = self.conn
        if conn.our_state is not h11.IDLE or conn.their_state is not h11.IDLE or conn.trailing_data[0]:
            return False
        head = read_head(data, MAX_HEADER_BYTES, MAX_HEADERS)
        if head is None:
            return False
        path, _, query = head.target.partition(b"?")
        scope = {
            "type": "http", "asgi": {"version": self.asgi_version, "spec_version": "2.3"}, "http_version": "1.1",
            "server": self.server, "client": self.client, "scheme": self.scheme, "method": "POST",
            "root_path": self.root_path, "path": self.root_path + path.decode(),
            "raw_path": self.root_path.encode() + path, "query_string": query, "headers": head.headers,
            "state": self.app_state.copy(),
        }  # fmt: skip
        defaults = self.server_state.default_headers
        exchange = Exchange(head, scope, self.transport, self.flow, defaults, self.on_response_complete)
        self.cycle = exchange  # type: ignore[assignment]
        exchange.feed(data[head.size :])
        task = self.loop.create_task(exchange.run(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)
        return True

    def _feed(self, exchange: Exchange, data: bytes) -> None:
        """More of a plain request's body; what belongs to the next one waits until this one is answered."""
        self._held += exchange.feed(data)
        if len(self._held) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    def eof_received(self) -> None:
        if self._over:
            self._close()

    def on_response_complete(self) -> None:
        early = self._awaits_body  # asked before the next request, if one waits, begins
        super().on_response_complete()
        if early:
            self._end()  # the rest of the body belongs to nothing
        self._watch()
        if self._held:
            held, self._held = self._held, b""
            self.data_received(held)

    @property
    def _awaits_body(self) -> bool:
        exchange = self._exchange
        return self.conn.their_state is h11.SEND_BODY if exchange is None else not exchange.is_whole

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what is no request; h11 knows whether it was only too large."""
        if self.conn.refused == HEAD_TOO_LARGE:
            limit = f"{MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes"
            failure = Failure("too_large", f"the request's head exceeds {limit}", status_override=HEAD_TOO_LARGE)
            self._refuse(failure)
        else:
            why = self.conn.why or "this is no HTTP/1.1 request"
            self._refuse(Failure("validation", why, status_override=400))

    def timeout_keep_alive_handler(self) -> None:
        """Nothing: uvicorn's own alarm goes off with the first byte, whatever it is."""

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def shutdown(self) -> None:
        self._patience = UNREAD_AT_THE_END
        try:
            super().shutdown()
        except h11.LocalProtocolError:  # already over, one way or another
            self._bare.abort()
        self._unread.off()
        self._watch_answer()

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: clients that offer HTTP/2 on every request are answered in HTTP/1.1."""

    def _watch(self) -> None:
        """Set the alarms that this moment needs, and no others."""
        self._watch_answer()
        serving = self.cycle is not None and not self.cycle.response_complete
        if serving or self._over or self.transport.is_closing():
            self._head.off()
            self._idle.off()
        elif self.cycle is None or self.conn.trailing_data[0]:
            self._idle.off()
            self._head.set(self.config.header_seconds)
        else:
            self._head.off()
            self._idle.set(KEEP_ALIVE_SECONDS)

    def _watch_answer(self) -> None:
        if self._bare.get_write_buffer_size() and not self._unread.is_set:
            self._look()

    def _look(self) -> None:
        """Note how much of what was written the client has not taken, and look again later."""
        self._unsent = unsent(self._bare)
        self._taken = self._counting.sent - self._unsent
        self._unread.set(self._patience)

    def _unread_late(self) -> None:
        """Abort unless the client has read some of its answer since the last look."""
        if not self._bare.get_write_buffer_size():
            return
        taken = self._counting.sent - unsent(self._bare) - self._taken
        if taken < min(LEAST_READ, self._unsent):
            self.config.refused("unread")
            self._bare.abort()
        else:
            self._look()

    def _head_late(self) -> None:
        if self.conn.trailing_data[0]:
            why = f"the headers did not come within {self.config.header_seconds:g} seconds"
            self._refuse(Failure("body_timeout", why), "slow_headers")
        else:
            self._close()  # nothing was asked, so nothing is answered

    def _idle_late(self) -> None:
        if self._bare.get_write_buffer_size():
            self._idle.set(KEEP_ALIVE_SECONDS)  # it still reads
        else:
            self._close()

    def _refuse(self, failure: Failure, reason: str | None = None) -> None:
        """Answer in our own dialect, since no path is known for certain, and end the connection."""
        self.config.refused(reason or failure.kind)
        answered = self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # whoever serves it stops
            self.cycle.waiting_for_100_continue = False
            self.cycle.message_event.set()
        if not answered:
            status, body = failure.status("tandem"), orjson.dumps(failure.body("tandem", ""))
            told = {**failure.headers(), "content-type": "application/json", "content-length": str(len(body))}
            headers = [(name.encode(), value.encode()) for name, value in {**told, "connection": "close"}.items()]
            events: list[h11.Event] = [
                h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status]),
                h11.EndOfMessage(),
            ]
            if self.conn.method != b"HEAD":
                events.insert(1, h11.Data(data=body))
            try:
                self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
            except h11.LocalProtocolError:  # it cannot be told
                self._bare.abort()
        self._end()

    def _end(self) -> None:
        """No more is read of this connection; it closes when the client has had time to read the last answer."""
        if self._over or self._bare.is_closing():
            return
        self._over = True
        self.flow.resume_reading()
        if self._bare.can_write_eof():
            self._bare.write_eof()
        self._linger.off()
        self._linger.set(LINGER_SECONDS)
        self._watch()

    def _close_gently(self) -> None:
        """The answer's end closes: at once, unless there is more to come that would turn it into a reset."""
        if self._awaits_body:
            self._end()
        else:
            self._close()

    def _close(self) -> None:
        self._bare.close()
        self._watch()


# uvicorn warns of every packet that is no request, which the metrics count.
_quiet = logging.getLogger("uvicorn.error").getChild("connection")
_quiet.addFilter(lambda record: record.msg != "Invalid HTTP request received.")
