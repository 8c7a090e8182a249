"""Load on an HTTP server of this machine: open loop (arrivals do not wait for answers) and closed loop.

Bounded in count and time, and to loopback: it measures one's own server and cannot be pointed at another's. Latency
counts from the moment a request should have been sent, so a load that falls behind does not look fast.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h11

from ...engine.errors import InputError
from ...engine.server.settings import loopback

MAX_REQUESTS = 20_000
NO_ANSWER = 0
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n(?:.*\r\n)*?\r\n")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: its status (0: the connection broke), seconds from when it was due, and how late it was sent.

    ended: the event loop's clock at its answer
    """

    status: int
    seconds: float
    sent_late: float
    ended: float = 0.0


class Client:
    """Keeps connections open and hands each to one request at a time."""

    def __init__(self, host: str, port: int, headers: Mapping[str, str] | None = None) -> None:
        """Raises InputError for a host that is not this machine."""
        _check_here(host)
        self._host = host
        self.port = port
        self._headers = {"host": f"{host}:{port}", "content-type": "application/json", **(headers or {})}
        self._idle: list[_Connection] = []

    async def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of an answer; raises OSError or h11.ProtocolError when there is none."""
        connection = self._idle.pop() if self._idle else await _Connection.open(self._host, self.port)
        try:
            status, answer = await connection.post(path, body, {**self._headers, **(headers or {})})
        except BaseException:  # also when the request is cancelled: what comes on this connection is not ours any more
            connection.close()
            raise
        if connection.reusable:
            self._idle.append(connection)
        else:
            connection.close()
        return status, answer

    def close(self) -> None:
        """Close every idle connection."""
        while self._idle:
            self._idle.pop().close()


def _check_here(host: str) -> None:
    if not loopback(host):
        raise InputError(f"{host} is not this machine: load is only put on 127.0.0.1")


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._state = h11.Connection(h11.CLIENT)

    @classmethod
    async def open(cls, host: str, port: int) -> _Connection:
        return cls(*await asyncio.open_connection(host, port))

    @property
    def reusable(self) -> bool:
        if self._state.our_state is not h11.DONE or self._state.their_state is not h11.DONE:
            return False
        self._state.start_next_cycle()
        return True

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        head = [*headers.items(), ("content-length", str(len(body)))]
        events = (h11.Request(method="POST", target=path, headers=head), h11.Data(data=body), h11.EndOfMessage())
        self._writer.write(b"".join(self._state.send(event) or b"" for event in events))
        status, parts = NO_ANSWER, []
        while True:
            event: Any = self._state.next_event()
            if event is h11.NEED_DATA:
                self._state.receive_data(await self._reader.read(2**16))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return status, b"".join(parts)
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError("the server closed the connection before its answer")

    def close(self) -> None:
        self._writer.close()


class BareClient:
    """One connection, asked one request at a time with as little of a client's own work as there can be.

    Its time is the server's: the standard library's client takes some .4 ms of its own for a request.
    """

    def __init__(self, host: str, port: int, deadline_ms: float) -> None:
        """Raises InputError for a host that is not this machine, OSError where nobody listens."""
        _check_here(host)
        self._headers = f"host: {host}\r\ncontent-type: application/json\r\nx-request-timeout-ms: {deadline_ms:.0f}"
        self._socket = socket.create_connection((host, port), timeout=deadline_ms / 1e3 + 5.0)

    def post(self, path: str, body: bytes) -> tuple[Outcome, bytes]:
        """What became of a request, and the answer's body; raises OSError when there is no answer."""
        request = f"POST {path} HTTP/1.1\r\n{self._headers}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
        start = time.monotonic()
        self._socket.sendall(request)
        answer = self._read()
        ended = time.monotonic()
        return Outcome(int(answer[9:12]), ended - start, 0.0, ended), answer.partition(b"\r\n\r\n")[2]

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _read(self) -> bytes:
        answer, end = b"", None
        while end is None or len(answer) < end:
            part = self._socket.recv(2**20)
            if not part:
                raise ConnectionResetError("the server closed the connection before its answer")
            answer += part
            if end is None and (found := _LENGTH.search(answer)):
                end = answer.index(b"\r\n\r\n") + 4 + int(found[1])
        return answer


async def open_loop(
    client: Client, path: str, bodies: Sequence[bytes], *, rate: float, seconds: float, seed: int, deadline_ms: float
) -> list[Outcome]:
    """Requests at `rate` a second for `seconds`, at the times of a Poisson process, each with its deadline."""
    draw = random.Random(seed)
    loop = asyncio.get_running_loop()
    start, due = loop.time(), 0.0
    tasks: list[asyncio.Task[Outcome]] = []
    for body in itertools.cycle(bodies):
        due += draw.expovariate(rate)
        if due > seconds or len(tasks) >= MAX_REQUESTS:
            break
        await asyncio.sleep(max(0.0, start + due - loop.time()))
        tasks.append(asyncio.create_task(timed(client, path, body, start + due, deadline_ms)))
    return list(await asyncio.gather(*tasks))


async def closed_loop(
    client: Client, path: str, bodies: Sequence[bytes], *, clients: int, seconds: float, deadline_ms: float
) -> list[Outcome]:
    """`clients` that each wait for their answer before they ask again, for `seconds`."""
    loop = asyncio.get_running_loop()
    end, source = loop.time() + seconds, itertools.cycle(bodies)
    outcomes: list[Outcome] = []

    async def ask() -> None:
        while loop.time() < end and len(outcomes) < MAX_REQUESTS:
            outcomes.append(await timed(client, path, next(source), loop.time(), deadline_ms))

    await asyncio.gather(*(ask() for _ in range(clients)))
    return outcomes


async def timed(client: Client, path: str, body: bytes, due: float, deadline_ms: float) -> Outcome:
    """One request that should have been sent at `due` (the event loop's clock)."""
    loop = asyncio.get_running_loop()
    sent = loop.time()
    try:
        status, _ = await client.post(path, body, {"x-request-timeout-ms": f"{deadline_ms:.0f}"})
    except (OSError, h11.ProtocolError):
        status = NO_ANSWER
    ended = loop.time()
    return Outcome(status, ended - due, sent - due, ended)


def wait_until(condition: Any, seconds: float, step: float = 0.05) -> bool:
    """Whether `condition()` became true within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(step)
    return False
