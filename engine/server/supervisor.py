"""Which backend answers: opened once, replaced when it ends, swapped when the collection has a new version.

A request holds a lease: a backend that was replaced stays open until the last lease on it is returned. Each call sees
one version from its beginning to its end.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from ..collection import Pointer, read_pointer
from ..config import SearchSettings
from ..errors import TandemError
from ..platform.device_wide import release_unused
from .aside import aside
from .backend import Backend, WorkerFault, WorkerLost
from .errors import Failure
from .logs import where
from .metrics import Metrics
from .model_info import Facts, Load
from .poison_requests import PoisonRequests
from .rpc_calls import Call, Refresh, SearchCall

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
Opener = Callable[[Pointer | None], Awaitable[Backend]]
# Seconds before a worker that ended is started again, by how many ended before it; one that lived for HEALTHY seconds
# starts the row anew. Whatever ends them, it is served again within seconds once it stops.
BACK_OFF = (0.0, 0.5, 1.0, 2.0)
HEALTHY = 60.0
# The same by how often starting it has failed in a row: opening costs a core for a second or two each time.
FAILED = (1.0, 2.0, 4.0, 8.0, 15.0)
# Seconds that a request whose worker ended waits for the next one. Where opening took longer the last time it is told
# at once when to come back.
PATIENCE = 5.0
# A new version answers this before anybody else asks it: pages are read, and what does not work is found.
REFRESH = Refresh(client="")
PROBE = SearchCall(client="", query="warm", settings=SearchSettings(budget_ms=None))


class Lease:
    """One request's hold on a backend."""

    def __init__(self, host: Host, backend: Backend) -> None:
        self._host = host
        self.backend = backend
        self._moving = asyncio.Lock()

    @property
    def facts(self) -> Facts:
        """What this request sees."""
        return self.backend.facts

    async def run(self, call: Call[Answer], remaining: float) -> Answer:
        """The answer to a call; when the worker dies under it, once more of the next one within `remaining` seconds.

        Raises what the engine raises, Failure `unavailable`, or Failure `model` for a call that ends workers.
        """
        poison = self._host.poison
        if poison.refuses(call):
            raise _deadly()
        first = self.backend
        try:
            answer = await first.run(call)
        except WorkerLost:
            self._host.metrics.retried.inc()
            self._lost(call, first, alone=False)
            await self._move_on(remaining)
            async with poison.alone:
                answer = await self._again(call, remaining)
        poison.clear(call)
        return answer

    async def _again(self, call: Call[Answer], remaining: float) -> Answer:
        backend = await self._move_on(remaining)  # the call before may have ended that one
        try:
            return await backend.run(call)
        except WorkerLost:
            self._lost(call, backend, alone=True)
            raise unavailable("the worker ended twice under this request") from None

    def _lost(self, call: Call[Answer], backend: Backend, *, alone: bool) -> None:
        if self._host.poison.strike(call, backend, alone=alone):
            log.error("a request ends every worker; it is refused for now", extra={"call": type(call).__name__})
            raise _deadly() from None

    async def _move_on(self, remaining: float) -> Backend:
        """A backend that lives: a request's calls run side by side, and the first moves them all."""
        async with self._moving:
            lost = self.backend
            if lost.ended.is_set():
                successor = await self._host.next_backend(remaining)
                self._host.hold(successor)
                self._host.release(lost)
                self.backend = successor
            return self.backend


class Host:
    """The current backend and its successors. Belongs to the event loop."""

    def __init__(self, collection: Path | None, opener: Opener | None, metrics: Metrics, *, close_after: float) -> None:
        """`opener` opens a version (None: the current one) or raises TandemError; None: only `adopt` brings a backend.

        `close_after`: seconds that leases on a replaced backend may last.
        """
        self.metrics = metrics
        self.poison = PoisonRequests()
        self.restarts = 0
        self._deaths = 0
        self._opening = 0.0
        """Seconds that opening took the last time."""
        self._collection = collection
        self._opener = opener
        self._close_after = close_after
        self._current: Backend | None = None
        self._pointer: Pointer | None = None
        self._refused: Pointer | str | None = None
        self._changed = asyncio.Condition()
        self._leases: Counter[int] = Counter()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._swapping = asyncio.Lock()
        self._closing = False

    def adopt(self, backend: Backend) -> None:
        """Serve with a backend that is open already."""
        self._take(backend)

    async def open(self) -> Facts:
        """Open the current version, and from now on replace its backend when it ends; raises what opening raises."""
        assert self._opener is not None
        pointer = None if self._collection is None else await aside(read_pointer, self._collection)
        backend = await self._open(pointer)
        self._pointer = pointer
        self._supervise(backend)
        await self._announce(backend)
        return backend.facts

    async def close(self) -> None:
        """End every task and backend."""
        self._closing = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._current is not None:
            await self._current.close()

    @property
    def current(self) -> Backend | None:
        """The backend that takes new requests; None while there is none."""
        return self._current

    @property
    def load(self) -> Load:
        """What waits for the device."""
        return Load() if self._current is None else self._current.load

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """Hold the current backend for one request; raises Failure `unavailable` while there is none."""
        if self._current is None:
            raise self._none()
        lease = Lease(self, self._current)
        self.hold(lease.backend)
        try:
            yield lease
        finally:
            self.release(lease.backend)

    def hold(self, backend: Backend) -> None:
        """Count a lease."""
        self._leases[id(backend)] += 1

    def release(self, backend: Backend) -> None:
        """Count one less."""
        self._leases[id(backend)] -= 1
        if not self._leases[id(backend)]:
            del self._leases[id(backend)]

    async def next_backend(self, remaining: float) -> Backend:
        """The one that lives, once there is one; raises Failure `unavailable` after `remaining` seconds at most."""
        gone = self._current is None or self._current.ended.is_set()
        if gone and self._pause() + self._opening > PATIENCE:
            raise self._none()
        try:
            async with asyncio.timeout(max(0.0, min(remaining, PATIENCE))), self._changed:
                await self._changed.wait_for(lambda: self._current is not None and not self._current.ended.is_set())
        except TimeoutError:
            raise self._none() from None
        assert self._current is not None
        return self._current

    def _none(self) -> Failure:
        first = self._current is None and not self.restarts
        what = "the models are being loaded" if first else "the worker is being started again"
        return unavailable(what, self._pause() + self._opening)

    def _pause(self) -> float:
        """Seconds before the worker that ended is started again."""
        return BACK_OFF[min(self._deaths, len(BACK_OFF)) - 1] if self._deaths else 0.0

    async def _open(self, pointer: Pointer | None) -> Backend:
        assert self._opener is not None
        begun = time.monotonic()
        backend = await self._opener(pointer)
        self._opening = time.monotonic() - begun
        return backend

    async def watch_pointer(self, seconds: float) -> None:
        """Swap whenever the collection's pointer moves, looked at every so many `seconds`."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.swap()
            except Exception as error:  # the next look may work, and nobody else looks
                log.error("looking for a new version failed", extra={"error": where(error)})

    async def reload(self) -> bool:
        """`swap` also to the version that is served; goes on when whoever asked for it leaves."""
        return await asyncio.shield(self._spawn(self.swap(force=True)))

    async def swap(self, *, force: bool = False) -> bool:
        """Serve the version that the collection's pointer names now, if it is another (or `force`); True when it does.

        Where the models are the same, the backend that serves moves to it (see `Engine.refresh`). Otherwise, and with
        `force`, another is opened beside it and asked a question before any request sees it. One that cannot be opened
        is refused, and the old one goes on.
        """
        assert self._opener is not None
        assert self._collection is not None
        async with self._swapping:
            try:
                pointer = await aside(read_pointer, self._collection)
            except TandemError as error:
                self._refuse(str(error), str(error))
                return False
            if pointer is None or (not force and pointer in (self._pointer, self._refused)):
                return False
            if not force and await self._move(pointer):
                return True
            try:
                fresh = await self._opener(pointer)
            except TandemError as error:
                self._refuse(pointer, str(error))
                return False
            try:
                await fresh.run(PROBE)
            except BaseException as error:
                await fresh.close()
                if not isinstance(error, TandemError | WorkerLost | WorkerFault):
                    raise
                self._refuse(pointer, str(error))
                return False
            old, self._pointer, self._refused = self._current, pointer, None
            self._supervise(fresh)
            await self._announce(fresh)
            self.metrics.swaps.labels("done").inc()
            log.info("swapped", extra={"version": fresh.facts.version, "passages": fresh.facts.passages})
            if old is not None:
                self._spawn(self._retire(old))
            return True

    async def _move(self, pointer: Pointer) -> bool:
        """Have the backend that serves go on to a new version of what it has open: no model is loaded again, and what
        is not new is not read again. False where it cannot: then another backend is opened, which says why.
        """
        current = self._current
        if current is None:
            return False
        try:
            facts = await current.run(REFRESH)
        except (TandemError, WorkerLost, WorkerFault) as error:
            log.info("the version cannot be moved to", extra={"error": str(error)})
            return False
        current.facts = facts
        if facts.version != pointer.version:
            return False
        self._pointer, self._refused = pointer, None
        self.metrics.serving(facts)
        self.metrics.swaps.labels("done").inc()
        log.info("moved", extra={"version": facts.version, "passages": facts.passages})
        return True

    async def moved(self) -> None:
        """After a change that this server made: say what is served now."""
        if self._collection is not None:
            await self.swap()
        elif self._current is not None:
            self._current.facts = await self._current.run(REFRESH)
            self.metrics.serving(self._current.facts)

    def _refuse(self, what: Pointer | str, why: str) -> None:
        if what == self._refused:
            return
        self._refused = what
        self.metrics.swaps.labels("refused").inc()
        serving = None if self._current is None else self._current.facts.version
        log.error("the new version was refused; the old one goes on", extra={"error": why, "serving": serving})

    async def _retire(self, backend: Backend) -> None:
        """Close a replaced backend when nobody holds it, or when it was held for long enough."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._close_after
        while self._leases[id(backend)] > 0 and loop.time() < deadline:
            await asyncio.sleep(0.05)
        await backend.close()
        log.info("closed", extra={"version": backend.facts.version})
        del backend
        await asyncio.to_thread(_give_back)

    def _supervise(self, backend: Backend) -> None:
        self._take(backend)
        self._spawn(self._replace_when_ended(backend))

    def _take(self, backend: Backend) -> None:
        self._current = backend
        self.metrics.serving(backend.facts)

    async def _announce(self, backend: Backend) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _replace_when_ended(self, backend: Backend) -> None:
        started = asyncio.get_running_loop().time()
        await backend.ended.wait()
        if self._current is not backend:  # it was swapped away and closed
            return
        self._current = None
        self.restarts += 1
        self.metrics.restarts.inc()
        log.error("the worker ended", extra={"reason": backend.reason, "version": backend.facts.version})
        await backend.close()
        lived = asyncio.get_running_loop().time() - started
        self._deaths = 1 if lived > HEALTHY else self._deaths + 1
        await self._reopen()

    async def _reopen(self) -> None:
        """Try until a worker is open: the version that was served, or after a failure the current one."""
        assert self._opener is not None
        pointer, failures = self._pointer, 0
        await asyncio.sleep(self._pause())
        while not self._closing:
            try:
                backend = await self._open(pointer)
            except Exception as error:  # whatever it is, the next try may work, and nobody else makes one
                said = str(error) if isinstance(error, TandemError) else where(error)
                log.error("the worker could not be started", extra={"error": said})
                pointer = None if pointer == self._pointer else self._pointer
                await asyncio.sleep(FAILED[min(failures, len(FAILED) - 1)])
                failures += 1
                continue
            if self._current is None:
                self._supervise(backend)
                await self._announce(backend)
                log.info("the worker was started again", extra={"version": backend.facts.version})
            else:  # a swap came first
                await backend.close()
            return

    def _spawn(self, work: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _give_back() -> None:
    """Return a closed engine's memory to the system: models that were here leave glibc's heap in pieces, which grew by
    some 2 MB a swap (RSS after eight engines, opened and closed, 186 MB; given back, 92, and 92 after sixteen). The
    card's too, which PyTorch keeps."""
    gc.collect()
    release_unused()
    with suppress(OSError, AttributeError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)


def _deadly() -> Failure:
    return Failure("model", "the model failed on this request every time it was tried; the server's log says why")


def unavailable(why: str, seconds: float = 0.0) -> Failure:
    """503 with the advice to come back when that is likely to be over, which takes so many seconds."""
    return Failure("unavailable", f"{why}; try again soon", retry_after=max(2, math.ceil(seconds)))
