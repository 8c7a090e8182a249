"""Who answers: a seat for each worker, and leases on what sits there.

A request holds a lease: a backend that was replaced stays open until the last lease on it is returned.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..platform.device_wide import release_unused
from .backend import Backend
from .catalogue import Catalogue
from .engines import Wanted
from .errors import Failure, unavailable, unknown_collection
from .lease import Lease
from .metrics import Metrics
from .model_info import Facts, Load
from .poison_requests import PoisonRequests
from .seat import Opener, Seat, versions
from .tasks import Tasks

log = logging.getLogger(__name__)
# Seconds that a request whose worker ended waits for another. Where opening took longer the last time it is told at
# once when to come back.
PATIENCE = 5.0


async def _nothing(backend: Backend) -> None:
    """There is nothing to bring it to."""


def _alike(number: int) -> float:
    """No worker has more to do than another."""
    return 0.0


class Host:
    """The workers' seats, and who holds what sits there. Belongs to the event loop."""

    def __init__(
        self, collections: Mapping[str, Path], opener: Opener | None, metrics: Metrics, *, close_after: float,
        needed: Container[str] = (), workers: int = 1, models: Mapping[str, Path] | None = None,
    ) -> None:  # fmt: skip
        """`collections` to serve, by name: the first answers whoever names none; and `models` by themselves. `opener`
        opens them or raises TandemError; None: only `adopt` brings a backend.

        `close_after`: seconds that leases on a replaced backend may last; `needed`: the names without which `open`
        fails, others are left out then, and the log says why; `workers`: how many backends there are
        """
        self.metrics = metrics
        self.poison = PoisonRequests()
        self.catalogue = Catalogue(collections, needed, models)
        self.tasks = Tasks()
        self.opens = opener is not None
        """Whether backends can be opened here."""
        self.seats = [
            Seat(number, opener, self.catalogue, metrics, self.tasks, self._settle, self._announce)
            for number in range(workers)
        ]
        self.settle: Callable[[Backend], Awaitable[None]] = _nothing
        """Brings what was opened again to what is served by now, before it is asked (see `Swaps`)."""
        self._close_after = close_after
        self._changed = asyncio.Condition()
        self._leases: Counter[int] = Counter()

    def adopt(self, backend: Backend) -> None:
        """Serve what a backend has open already."""
        self.catalogue.paths = {name: Path(facts.path) for name, facts in backend.facts.items()}
        self.seats[0].adopt(backend)
        self._tell(backend)

    async def close(self) -> None:
        """End every task and backend."""
        await self.tasks.close()
        await asyncio.gather(*(seat.current.close() for seat in self.seats if seat.current is not None))

    @property
    def living(self) -> list[Backend]:
        """The backends that answer."""
        return [seat.current for seat in self.seats if seat.lives and seat.current is not None]

    @property
    def current(self) -> Backend | None:
        """One that takes new requests; None while there is none."""
        there = [seat.current for seat in self.seats if seat.current is not None]
        return next((backend for backend in there if not backend.ended.is_set()), there[0] if there else None)

    @property
    def facts(self) -> dict[str, Facts]:
        """What is open now, by name, whichever worker has it."""
        there = [seat.current.facts for seat in reversed(self.seats) if seat.current is not None]
        return {name: facts for each in there for name, facts in each.items()}

    @property
    def load(self) -> Load:
        """What waits for the devices."""
        loads = [backend.load for backend in self.living]
        return Load(sum(each.jobs for each in loads), sum(each.tokens for each in loads))

    @property
    def restarts(self) -> int:
        """How often a worker ended unasked."""
        return sum(seat.restarts for seat in self.seats)

    @contextmanager
    def lease(self, name: str | None = None, cost: Callable[[int], float] = _alike) -> Iterator[Lease]:
        """Hold a collection for one request (None: the first one), or a model (see `key_of`), by the worker that has
        least to do.

        cost: seconds of work that worker number so and so has been given

        Raises Failure `unavailable` while there is no backend, `not_found` where no such collection is served.
        """
        seats = [seat for seat in self.seats if seat.current is not None]
        if not seats:
            raise self.absent()
        known = self.catalogue.keys
        if name is None:
            name = next(iter(known), None)
        if name is None or name not in known:
            raise unknown_collection()
        able = [(seat, seat.current) for seat in seats if seat.current is not None and name in seat.current.facts]
        if not able:
            raise unavailable("the collection cannot be opened, and the server's log says why")
        seat, backend = min(able, key=lambda each: self._rank(each[0], each[1], cost))
        lease = Lease(self, seat, backend, name)
        try:
            yield lease
        finally:
            lease.end()

    def _rank(self, seat: Seat, backend: Backend, cost: Callable[[int], float]) -> tuple[bool, float, int]:
        return backend.ended.is_set(), cost(seat.number), self._leases[id(backend)]

    def hold(self, backend: Backend) -> None:
        """Count a lease."""
        self._leases[id(backend)] += 1

    def release(self, backend: Backend) -> None:
        """Count one less."""
        self._leases[id(backend)] -= 1
        if not self._leases[id(backend)]:
            del self._leases[id(backend)]

    async def next_seat(self, name: str, remaining: float) -> Seat:
        """One whose backend lives and has `name` open, once there is one; raises Failure `unavailable` after
        `remaining` seconds."""
        if not self.living and self._wait > PATIENCE:
            raise self.absent()

        def able() -> list[Seat]:
            return [seat for seat in self.seats if seat.lives and seat.current and name in seat.current.facts]

        try:
            async with asyncio.timeout(max(0.0, min(remaining, PATIENCE))), self._changed:
                await self._changed.wait_for(able)
        except TimeoutError:
            raise self.absent() from None
        return min(able(), key=lambda seat: self._leases[id(seat.current)])

    def absent(self) -> Failure:
        """What a request is told while there is no backend."""
        first = self.current is None and not self.restarts
        what = "the models are being loaded" if first else "the worker is being started again"
        return unavailable(what, self._wait)

    @property
    def _wait(self) -> float:
        """Seconds until a worker is likely to answer."""
        return min(seat.wait for seat in self.seats)

    async def open_all(self, wanted: Sequence[Wanted]) -> list[Backend]:
        """A backend for each seat, beside what sits there, all or none; raises what opening raises."""
        opening = [asyncio.ensure_future(seat.open(wanted)) for seat in self.seats]
        try:
            return await asyncio.gather(*opening)
        except BaseException:
            for each in opening:
                each.cancel()
            for opened in await asyncio.gather(*opening, return_exceptions=True):
                if not isinstance(opened, BaseException):
                    await opened.close()
            raise

    async def take(self, backends: Sequence[Backend]) -> None:
        """Answer with these from now on, one a seat, and close what they replace when nobody holds it."""
        for seat, backend in zip(self.seats, backends, strict=True):
            if (before := seat.take(backend)) is not None:
                self.tasks.spawn(self._retire(before))
        for backend in backends:
            await self._announce(backend)

    async def _settle(self, backend: Backend) -> None:
        await self.settle(backend)

    async def _announce(self, backend: Backend) -> None:
        self._tell(backend)
        async with self._changed:
            self._changed.notify_all()

    def _tell(self, backend: Backend) -> None:
        gone = self.catalogue.gone(backend.facts)
        for name, facts in backend.facts.items():
            if name not in gone:
                self.metrics.serving(facts)

    async def _retire(self, backend: Backend) -> None:
        """Close a replaced backend when nobody holds it, or when it was held for long enough."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._close_after
        try:
            while self._leases[id(backend)] > 0 and loop.time() < deadline:
                await asyncio.sleep(0.05)
        finally:  # also when the server ends meanwhile
            await backend.close()
        log.info("closed", extra={"versions": versions(backend)})
        del backend
        await asyncio.to_thread(_give_back)


def _give_back() -> None:
    """Return a closed engine's memory to the system: models that were here leave glibc's heap in pieces, which grew by
    some 2 MB a swap (RSS after eight engines, opened and closed, 186 MB; given back, 92, and 92 after sixteen). The
    card's too, which PyTorch keeps."""
    gc.collect()
    release_unused()
    with suppress(OSError, AttributeError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)
