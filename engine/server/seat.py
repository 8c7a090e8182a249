"""One worker's place: what answers there, opened again whenever it ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from ..errors import TandemError
from .backend import Backend
from .catalogue import Catalogue
from .engines import Wanted
from .logs import where
from .metrics import Metrics
from .tasks import Tasks

log = logging.getLogger(__name__)
Opener = Callable[[int, Sequence[Wanted]], Awaitable[Backend]]
"""Opens collections in the worker of that number; raises TandemError."""
# Seconds before a worker that ended is started again, by how many ended before it; one that lived for HEALTHY seconds
# starts the row anew. Whatever ends them, it is served again within seconds once it stops.
BACK_OFF = (0.0, 0.5, 1.0, 2.0)
HEALTHY = 60.0
# The same by how often starting it has failed in a row: opening costs a core for a second or two each time.
FAILED = (1.0, 2.0, 4.0, 8.0, 15.0)


class Seat:
    """The place of worker `number`. Belongs to the event loop."""

    def __init__(
        self, number: int, opener: Opener | None, catalogue: Catalogue, metrics: Metrics, tasks: Tasks,
        settle: Callable[[Backend], Awaitable[None]], taken: Callable[[Backend], Awaitable[None]],
    ) -> None:  # fmt: skip
        """`opener`: None where only `adopt` brings a backend; `settle` and `taken`: told of each backend that was
        opened again, before and after it is asked."""
        self.number = number
        self.current: Backend | None = None
        """What takes new requests; None while there is nothing."""
        self.restarts = 0
        self.opening = 0.0
        """Seconds that opening took the last time."""
        self._opener = opener
        self._catalogue = catalogue
        self._metrics = metrics
        self._tasks = tasks
        self._settle = settle
        self._taken = taken
        self._deaths = 0

    @property
    def lives(self) -> bool:
        """Whether a backend answers here."""
        return self.current is not None and not self.current.ended.is_set()

    @property
    def pause(self) -> float:
        """Seconds before the worker that ended is started again."""
        return BACK_OFF[min(self._deaths, len(BACK_OFF)) - 1] if self._deaths else 0.0

    @property
    def wait(self) -> float:
        """Seconds until a worker that ended now is likely to answer again."""
        return self.pause + self.opening

    async def open(self, wanted: Sequence[Wanted]) -> Backend:
        """A backend with `wanted`, beside what answers here; raises what opening raises."""
        assert self._opener is not None
        begun = time.monotonic()
        backend = await self._opener(self.number, wanted)
        self.opening = time.monotonic() - begun
        return backend

    def adopt(self, backend: Backend) -> None:
        """Answer with what somebody else opened, and closes."""
        self.current = backend

    def take(self, backend: Backend) -> Backend | None:
        """Answer with `backend` from now on, and replace it when it ends; what answered before."""
        before, self.current = self.current, backend
        self._tasks.spawn(self._replace_when_ended(backend))
        return before

    async def _replace_when_ended(self, backend: Backend) -> None:
        started = asyncio.get_running_loop().time()
        await backend.ended.wait()
        if self.current is not backend:  # it was swapped away and closed
            return
        self.current = None
        self.restarts += 1
        self._metrics.restarts.labels(str(self.number)).inc()
        told = {"worker": self.number, "reason": backend.reason, "versions": versions(backend)}
        log.error("the worker ended", extra=told)
        await backend.close()
        lived = asyncio.get_running_loop().time() - started
        self._deaths = 1 if lived > HEALTHY else self._deaths + 1
        await self._reopen()

    async def _reopen(self) -> None:
        """Try until a worker is open: the versions that were served, or after a failure the current ones."""
        failures = 0
        await asyncio.sleep(self.pause)
        while True:
            try:
                pointers = {} if failures % 2 else self._catalogue.pointers
                backend = await self.open(self._catalogue.wanted(pointers))
            except Exception as error:  # whatever it is, the next try may work, and nobody else makes one
                said = str(error) if isinstance(error, TandemError) else where(error)
                log.error("the worker could not be started", extra={"worker": self.number, "error": said})
                await asyncio.sleep(FAILED[min(failures, len(FAILED) - 1)])
                failures += 1
                continue
            try:
                await self._settle(backend)
            except BaseException:  # the server ends: nobody else knows of it
                await backend.close()
                raise
            if self.current is None:
                self.take(backend)
                await self._taken(backend)
                told = {"worker": self.number, "versions": versions(backend)}
                log.info("the worker was started again", extra=told)
            else:  # a swap came first
                await backend.close()
            return


def versions(backend: Backend) -> dict[str, str]:
    """The version of each collection that a backend has open."""
    return {name: facts.version for name, facts in backend.facts.items()}
