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

from ...engine.errors import InputError
from ...engine.server.settings import loopback

MAX_REQUESTS = 20_000
NO_ANSWER = 0
NO_WHOLE_ANSWER = "the server closed the connection before its answer"
_BLANK = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: close\r\n", re.IGNORECASE)


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
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of an answer; raises OSError when there is none."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(self._host, self.port)
        try:
            writer.write(_request(path, {**self._headers, **(headers or {})}, body))
            head = _Head.of(await reader.readuntil(_BLANK))
            answer = await reader.readexactly(head.length)
        except EOFError as error:
            writer.close()
            raise ConnectionResetError(NO_WHOLE_ANSWER) from error
        except BaseException:  # also when the request is cancelled: what comes on this connection is not ours any more
            writer.close()
            raise
        if head.closes:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return head.status, answer

    def close(self) -> None:
        """Close every idle connection."""
        while self._idle:
            self._idle.pop()[1].close()


def _check_here(host: str) -> None:
    if not loopback(host):
        raise InputError(f"{host} is not this machine: load is only put on 127.0.0.1")


def _request(path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


@dataclass(frozen=True, slots=True)
class _Head:
    """Of an answer: its status, the bytes of its body, and whether its connection ends with it."""

    status: int
    length: int
    closes: bool

    @classmethod
    def of(cls, head: bytes) -> _Head:
        """Raises ConnectionError for one that does not say how long its body is: our server always does."""
        found = _LENGTH.search(head)
        if found is None:
            raise ConnectionError(f"an answer without a length: {head[:80]!r}")
        return cls(int(head[9:12]), int(found[1]), _CLOSES.search(head) is not None)


class BareClient:
    """One connection, asked one request at a time with as little of a client's own work as there can be.

    Its time is the server's: the standard library's client takes some .4 ms of its own for a request.
    """

    def __init__(self, host: str, port: int, deadline_ms: float) -> None:
        """Raises InputError for a host that is not this machine, OSError where nobody listens."""
        _check_here(host)
        deadline = {"x-request-timeout-ms": f"{deadline_ms:.0f}"}
        self._headers = {"host": host, "content-type": "application/json", **deadline}
        self._socket = socket.create_connection((host, port), timeout=deadline_ms / 1e3 + 5.0)

    def post(self, path: str, body: bytes) -> tuple[Outcome, bytes]:
        """What became of a request, and the answer's body; raises OSError when there is no answer."""
        request = _request(path, self._headers, body)
        start = time.monotonic()
        self._socket.sendall(request)
        status, answer = self._read()
        ended = time.monotonic()
        return Outcome(status, ended - start, 0.0, ended), answer

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _read(self) -> tuple[int, bytes]:
        answer, head, end = b"", None, 0
        while head is None or len(answer) < end:
            part = self._socket.recv(2**20)
            if not part:
                raise ConnectionResetError(NO_WHOLE_ANSWER)
            answer += part
            if head is None and (start := answer.find(_BLANK)) >= 0:
                head = _Head.of(answer[: start + len(_BLANK)])
                end = start + len(_BLANK) + head.length
        return head.status, answer[end - head.length : end]


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
    except OSError:
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
