"""One request's hold on a collection that a worker has open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

from .backend import Backend, WorkerLost
from .errors import Failure, unavailable
from .metrics import Metrics
from .model_info import Facts
from .poison_requests import PoisonRequests
from .rpc_calls import Call
from .seat import Seat

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class Lessor(Protocol):
    """Who gives leases (see `Host`)."""

    metrics: Metrics
    poison: PoisonRequests

    async def next_seat(self, name: str, remaining: float) -> Seat:
        """A seat whose backend lives and has `name` open; raises Failure `unavailable` after `remaining` seconds."""
        ...

    def hold(self, backend: Backend) -> None:
        """Count a lease."""
        ...

    def release(self, backend: Backend) -> None:
        """Count one less."""
        ...


class Lease:
    """The collection `name` by the backend of a seat.

    A backend that was replaced stays open until the last lease on it is returned, and each call sees one version from
    its beginning to its end.
    """

    def __init__(self, lessor: Lessor, seat: Seat, backend: Backend, name: str) -> None:
        self.name = name
        self.seat = seat
        self.backend = backend
        self.moved: Callable[[int], None] | None = None
        """Told the number of the worker that the request goes on with."""
        self._lessor = lessor
        self._first = backend.facts[name]
        self._moving = asyncio.Lock()
        lessor.hold(backend)

    def end(self) -> None:
        """The request is over."""
        self._lessor.release(self.backend)

    @property
    def facts(self) -> Facts:
        """What this request sees; what it saw first, where the collection was removed meanwhile."""
        return self.backend.facts.get(self.name, self._first)

    async def run(self, call: Call[Answer], remaining: float) -> Answer:
        """The answer to a call; when the worker dies under it, once more of another within `remaining` seconds.

        Raises what the engine raises, Failure `unavailable`, or Failure `model` for a call that ends workers.
        """
        poison = self._lessor.poison
        if poison.refuses(call):
            raise _deadly()
        first = self.backend
        try:
            answer = await first.run(call, self.name)
        except WorkerLost:
            self._lessor.metrics.retried.inc()
            self._lost(call, first, alone=False)
            await self._move_on(remaining)
            async with poison.alone:
                answer = await self._again(call, remaining)
        poison.clear(call)
        return answer

    async def _again(self, call: Call[Answer], remaining: float) -> Answer:
        backend = await self._move_on(remaining)  # the call before may have ended that one
        try:
            return await backend.run(call, self.name)
        except WorkerLost:
            self._lost(call, backend, alone=True)
            raise unavailable("the worker ended twice under this request") from None

    def _lost(self, call: Call[Answer], backend: Backend, *, alone: bool) -> None:
        if self._lessor.poison.strike(call, backend, alone=alone):
            log.error("a request ends every worker; it is refused for now", extra={"call": type(call).__name__})
            raise _deadly() from None

    async def _move_on(self, remaining: float) -> Backend:
        """A backend that lives: a request's calls run side by side, and the first moves them all."""
        async with self._moving:
            lost = self.backend
            if lost.ended.is_set():
                seat = await self._lessor.next_seat(self.name, remaining)
                assert seat.current is not None
                self._lessor.hold(seat.current)
                self._lessor.release(lost)
                self.seat, self.backend = seat, seat.current
                if self.moved is not None:
                    self.moved(seat.number)
            return self.backend


def _deadly() -> Failure:
    return Failure("model", "the model failed on this request every time it was tried; the server's log says why")
