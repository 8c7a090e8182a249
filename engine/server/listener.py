"""One listener: uvicorn as it comes, and what its connections are held to besides their requests.

uvicorn gives a request's head all the time it wants, and takes any number of connections: a few thousand that send
nothing would use up the process's files. So what waits for a head too long is closed, and of too many connections those
go that have waited longest without a request: whoever asks something, a probe above all, is let in.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import Protocol, cast

import uvicorn
from starlette.types import ASGIApp

from ..errors import InputError
from .settings import ServerSettings

LOOK_SECONDS = 0.25
KEEP_ALIVE_SECONDS = 30
# An answer is given up when nothing more of it fits into the system's buffers, which hold some megabytes, for so long.
UNREAD_SECONDS = 60.0
# How often uvicorn looks whether it should end; the drain adds it to its own time.
BACKSTOP_SECONDS = 5


class Listener:
    """An application on a socket. Belongs to the event loop that runs it."""

    def __init__(
        self, app: ASGIApp, settings: ServerSettings, bound: socket.socket, refused: Callable[[str], None], most: int
    ) -> None:
        """refused: told the reason when a connection is ended; most: connections, idle ones included."""
        self._bound = bound
        # zttp of the parsers that uvicorn offers: it alone gives one answer to Content-Length beside Transfer-Encoding,
        # to a byte that comes late and to a head without an end, and bounds the head (compared in bench/LOG.md).
        config = uvicorn.Config(
            app, http="zttp", ws="none", lifespan="off", log_config=None, log_level=logging.ERROR, access_log=False,
            server_header=False, proxy_headers=False, timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(settings.drain_timeout_ms / 1e3) + BACKSTOP_SECONDS,
        )  # fmt: skip
        self._server = _Server(config)
        self._connections = Connections(self._server, settings.header_timeout_ms / 1e3, most, refused)

    async def run(self) -> None:
        """Serve until `stop`."""
        watching = asyncio.create_task(self._connections.watch())
        try:
            await self._server.serve(sockets=[self._bound])
        finally:
            watching.cancel()

    def stop(self, *, at_once: bool = False) -> None:
        """Take no more connections, and end when those are answered that ask something, or `at_once`."""
        self._server.force_exit = at_once
        self._server.should_exit = True


class Connection(Protocol):
    """What is asked of a connection of uvicorn's, whose range of versions is bounded for it."""

    transport: asyncio.Transport
    timeout_keep_alive_task: asyncio.TimerHandle | None
    """Set while it is idle between two requests; uvicorn closes it then."""

    @property
    def cycle(self) -> Cycle | None:
        """Its last request."""


class Cycle(Protocol):
    """A request."""

    response_complete: bool
    more_body: bool


class Connections:
    """Watches one server's connections."""

    def __init__(self, server: uvicorn.Server, head_seconds: float, most: int, refused: Callable[[str], None]) -> None:
        self._open = cast(set[Connection], server.server_state.connections)
        self._head_seconds = head_seconds
        self._most = most
        self._refused = refused
        self._quiet: dict[Connection, Cycle | None] = {}
        """Those without a request, and their last one; those that have been so for longest come first."""
        self._heads: dict[Connection, float] = {}
        """Of these the ones of which a head, or the rest of a body, is awaited, and since when."""
        self._unread: dict[Connection, tuple[int, float]] = {}
        """Those with an answer in their buffer: how much of it, and since when no less."""

    async def watch(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Close what is to be closed; `now` in seconds."""
        quiet = {each: each.cycle for each in self._open if each.cycle is None or each.cycle.response_complete}
        still = {each: last for each, last in self._quiet.items() if each in quiet and quiet[each] is last}
        self._quiet = still | quiet
        # With its timer set it is idle between two requests, and uvicorn closes it.
        awaited = (each for each in quiet if each.timeout_keep_alive_task is None)
        self._heads = {each: self._heads.get(each, now) if each in still else now for each in awaited}
        self._unread = {each: self._stuck(each, now) for each in self._open if _unsent(each)}
        for each, (_, since) in self._unread.items():
            if now - since > UNREAD_SECONDS:
                self._refused("unread")
                each.transport.abort()
        for each, since in self._heads.items():
            if now - since > self._head_seconds and each not in self._unread:
                self._end(each, "slow_headers")
        self._shed(max(0, len(self._open) - self._most))

    def _shed(self, count: int) -> None:
        """End `count` connections: those without a request, longest first, then those whose body has not come whole."""
        for each in list(self._quiet)[:count]:
            self._end(each, "connections")
            count -= 1
        sending = [each for each in self._open if _is_sending(each.cycle)]
        for each in sending[:count]:
            self._refused("connections")
            each.transport.abort()

    def _stuck(self, each: Connection, now: float) -> tuple[int, float]:
        size, since = self._unread.get(each, (-1, now))
        return (size, since) if _unsent(each) == size else (_unsent(each), now)

    def _end(self, each: Connection, reason: str) -> None:
        self._refused(reason)
        del self._quiet[each]
        each.transport.close()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: ours drain first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """A socket at an address; raises InputError when it is taken or nobody's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named: without it an answer's body waits 40 ms for
    # the acknowledgement of its headers.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host.strip("[]"), port))
    except OSError as error:
        bound.close()
        raise InputError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another port or admin_port, or another host"
        ) from error
    return bound


def _is_sending(cycle: Cycle | None) -> bool:
    return cycle is not None and cycle.more_body and not cycle.response_complete


def _unsent(connection: Connection) -> int:
    return connection.transport.get_write_buffer_size()
