"""Which backend answers: opened once, replaced when it ends, swapped when a collection has a new version.

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
from collections.abc import Awaitable, Callable, Container, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from ..collection import Pointer, read_pointer
from ..config import SearchSettings
from ..errors import CollectionError, TandemError
from ..platform.device_wide import release_unused
from .aside import aside
from .backend import Backend, WorkerFault, WorkerLost
from .engines import Wanted
from .errors import Failure
from .logs import where
from .metrics import Metrics
from .model_info import Facts, Load
from .poison_requests import PoisonRequests
from .rpc_calls import Call, Close, Open, Refresh, SearchCall

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
Opener = Callable[[Sequence[Wanted]], Awaitable[Backend]]
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
    """One request's hold on a collection that a backend has open."""

    def __init__(self, host: Host, backend: Backend, name: str) -> None:
        self._host = host
        self.name = name
        self.backend = backend
        self._first = backend.facts[name]
        self._moving = asyncio.Lock()

    @property
    def facts(self) -> Facts:
        """What this request sees; what it saw first, where the collection was removed meanwhile."""
        return self.backend.facts.get(self.name, self._first)

    async def run(self, call: Call[Answer], remaining: float) -> Answer:
        """The answer to a call; when the worker dies under it, once more of the next one within `remaining` seconds.

        Raises what the engine raises, Failure `unavailable`, or Failure `model` for a call that ends workers.
        """
        poison = self._host.poison
        if poison.refuses(call):
            raise _deadly()
        first = self.backend
        try:
            answer = await first.run(call, self.name)
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
            return await backend.run(call, self.name)
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

    def __init__(
        self, collections: Mapping[str, Path], opener: Opener | None, metrics: Metrics, *, close_after: float,
        needed: Container[str] = (),
    ) -> None:  # fmt: skip
        """`collections` to serve, by name: the first answers whoever names none. `opener` opens them or raises
        TandemError; None: only `adopt` brings a backend.

        `close_after`: seconds that leases on a replaced backend may last; `needed`: the names without which `open`
        fails, others are left out then, and the log says why
        """
        self.metrics = metrics
        self.poison = PoisonRequests()
        self.restarts = 0
        self._deaths = 0
        self._opening = 0.0
        """Seconds that opening took the last time."""
        self._collections = dict(collections)
        self._needed = needed
        self._opener = opener
        self._close_after = close_after
        self._current: Backend | None = None
        self._pointers: dict[str, Pointer | None] = {}
        self._refused: dict[str, Pointer | str] = {}
        self._changed = asyncio.Condition()
        self._leases: Counter[int] = Counter()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._swapping = asyncio.Lock()
        self._closing = False

    def adopt(self, backend: Backend) -> None:
        """Serve what a backend has open already."""
        self._collections = {name: Path(facts.path) for name, facts in backend.facts.items()}
        self._take(backend)

    async def open(self) -> dict[str, Facts]:
        """Open the current versions, and from now on replace their backend when it ends; raises what opening raises."""
        pointers = {name: await aside(read_pointer, path) for name, path in self._collections.items()}
        backend = await self._open(pointers, needed=self._needed)
        self._pointers = pointers
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

    @property
    def names(self) -> list[str]:
        """The collections that are served, the first one first."""
        return list(self._collections)

    @property
    def collections(self) -> dict[str, Path]:
        """Where each is."""
        return dict(self._collections)

    @property
    def paths(self) -> list[str]:
        """Where they are."""
        return [str(path) for path in self._collections.values()]

    @contextmanager
    def lease(self, name: str | None = None) -> Iterator[Lease]:
        """Hold a collection for one request (None: the first one).

        Raises Failure `unavailable` while there is no backend, `not_found` where no such collection is served.
        """
        if self._current is None:
            raise self.absent()
        if name is None:
            name = next(iter(self._collections), None)
        if name is None or name not in self._collections:
            raise Failure("not_found", "no such collection is served here; GET /v1/collections names those that are")
        if name not in self._current.facts:
            raise unavailable("the collection cannot be opened, and the server's log says why")
        lease = Lease(self, self._current, name)
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
            raise self.absent()
        try:
            async with asyncio.timeout(max(0.0, min(remaining, PATIENCE))), self._changed:
                await self._changed.wait_for(lambda: self._current is not None and not self._current.ended.is_set())
        except TimeoutError:
            raise self.absent() from None
        assert self._current is not None
        return self._current

    def absent(self) -> Failure:
        """What a request is told while there is no backend."""
        first = self._current is None and not self.restarts
        what = "the models are being loaded" if first else "the worker is being started again"
        return unavailable(what, self._pause() + self._opening)

    def _pause(self) -> float:
        """Seconds before the worker that ended is started again."""
        return BACK_OFF[min(self._deaths, len(BACK_OFF)) - 1] if self._deaths else 0.0

    async def _open(self, pointers: Mapping[str, Pointer | None], needed: Container[str] = ()) -> Backend:
        """A backend with every collection that is served, in these versions (None, or not named: the current one).

        Raises what opening one of the `needed` ones raises, or any where it is the only one. Others may be left out.
        """
        assert self._opener is not None
        begun = time.monotonic()
        only = len(self._collections) == 1
        wanted = [
            Wanted(name, path, pointers.get(name), needed=only or name in needed)
            for name, path in self._collections.items()
        ]
        backend = await self._opener(wanted)
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
        """Serve the versions that the collections' pointers name now, where one is another (or `force`); True when it
        does.

        Where the models are the same, the backend that serves moves to it (see `Engine.refresh`). Otherwise, and with
        `force`, another is opened beside it and asked a question before any request sees it. One that cannot be opened
        is refused, and the old one goes on.
        """
        async with self._swapping:
            moved, anew = False, dict[str, Pointer]()
            for name in self.names:
                pointer = await self._newer(name, force=force)
                if pointer is None:
                    continue
                if not force and await self._move(name, pointer):
                    moved = True
                else:
                    anew[name] = pointer
            if not anew:
                return moved
            served = set() if self._current is None else set(self._current.facts)
            return await self._replace(anew, needed=served if force else served | set(anew)) or moved

    async def _newer(self, name: str, *, force: bool) -> Pointer | None:
        """What a collection's pointer names, unless that is served or was refused."""
        try:
            pointer = await aside(read_pointer, self._collections[name])
        except TandemError as error:
            self._refuse(name, str(error), str(error))
            return None
        left_out = self._current is not None and name not in self._current.facts
        known = (None if left_out else self._pointers.get(name), self._refused.get(name))
        return None if not force and (pointer is None or pointer in known) else pointer

    async def _replace(self, anew: Mapping[str, Pointer], needed: Container[str]) -> bool:
        """Open another backend, with the versions `anew` and the others as served; False when it is refused, as it is
        where one of the `needed` ones cannot be opened."""
        pointers = {**self._pointers, **anew}
        try:
            fresh = await self._open(pointers, needed=needed)
        except TandemError as error:
            for name, pointer in anew.items():
                self._refuse(name, pointer, str(error))
            return False
        anew = {name: pointer for name, pointer in anew.items() if name in fresh.facts}
        for name, pointer in anew.items():
            try:
                await fresh.run(PROBE, name)
            except BaseException as error:
                await fresh.close()
                if not isinstance(error, TandemError | WorkerLost | WorkerFault):
                    raise
                self._refuse(name, pointer, str(error))
                return False
        old, self._pointers = self._current, pointers
        self._supervise(fresh)
        await self._announce(fresh)
        for name in anew:
            self._swapped("swapped", name, fresh.facts[name])
        if old is not None:
            self._spawn(self._retire(old))
        return True

    async def _move(self, name: str, pointer: Pointer) -> bool:
        """Have the backend that serves go on to a new version of what it has open: no model is loaded again, and what
        is not new is not read again. False where it cannot: then another backend is opened, which says why.
        """
        current = self._current
        if current is None:
            return False
        try:
            facts = await current.run(REFRESH, name)
        except (TandemError, WorkerLost, WorkerFault) as error:
            log.info("the version cannot be moved to", extra={"collection": name, "error": str(error)})
            return False
        current.facts[name] = facts
        if facts.version != pointer.version:
            return False
        self._pointers[name] = pointer
        self._swapped("moved", name, facts)
        return True

    def _swapped(self, how: str, name: str, facts: Facts) -> None:
        self._refused.pop(name, None)
        self.metrics.serving(facts)
        self.metrics.swaps.labels("done").inc()
        log.info(how, extra={"collection": name, "version": facts.version, "passages": facts.passages})

    async def add(self, name: str, path: Path) -> Facts:
        """Serve one more collection, beside the others and with their models where these are the same.

        It is asked a question before any request sees it. Raises CollectionError and whatever opening raises; Failure
        `unavailable` while there is no backend.
        """
        async with self._swapping:
            if name in self._collections:
                raise CollectionError(f"a collection {name} is served already")
            backend, pointer = self._current, await aside(read_pointer, path)
            if pointer is None:
                raise CollectionError(f"{name} is no collection: nothing was indexed there")
            if backend is None:
                raise self.absent()
            try:
                facts = await backend.run(Open(client="", path=str(path), version=pointer), name)
                await backend.run(PROBE, name)
            except (WorkerLost, WorkerFault) as error:
                raise CollectionError(
                    f"the worker failed while it opened {name} ({error}); its log says more"
                ) from None
            except TandemError:
                await backend.run(Close(client=""), name)
                raise
            self._collections[name], self._pointers[name] = path, pointer
            backend.facts[name] = facts
            self._swapped("loaded", name, facts)
            return facts

    async def remove(self, name: str) -> Path:
        """Serve a collection no more; requests for it that are under way are answered. Returns where it is.

        Raises CollectionError where no such collection is served.
        """
        async with self._swapping:
            if name not in self._collections:
                raise CollectionError(f"no collection {name} is served")
            path = self._collections.pop(name)
            self._pointers.pop(name, None)
            self._refused.pop(name, None)
            self.metrics.gone(name)
            if (backend := self._current) is not None:
                backend.facts.pop(name, None)
                with suppress(WorkerLost):
                    await backend.run(Close(client=""), name)
            log.info("unloaded", extra={"collection": name})
            return path

    async def moved(self, name: str) -> None:
        """After a change that this server made: say what is served now."""
        if self._opener is not None:
            await self.swap()
        elif self._current is not None:
            self._current.facts[name] = await self._current.run(REFRESH, name)
            self.metrics.serving(self._current.facts[name])

    def _refuse(self, name: str, what: Pointer | str, why: str) -> None:
        if what == self._refused.get(name):
            return
        self._refused[name] = what
        self.metrics.swaps.labels("refused").inc()
        facts = None if self._current is None else self._current.facts.get(name)
        log.error(
            "the new version was refused; the old one goes on",
            extra={"collection": name, "error": why, "serving": None if facts is None else facts.version},
        )

    async def _retire(self, backend: Backend) -> None:
        """Close a replaced backend when nobody holds it, or when it was held for long enough."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._close_after
        while self._leases[id(backend)] > 0 and loop.time() < deadline:
            await asyncio.sleep(0.05)
        await backend.close()
        log.info("closed", extra={"versions": _versions(backend)})
        del backend
        await asyncio.to_thread(_give_back)

    def _supervise(self, backend: Backend) -> None:
        self._take(backend)
        self._spawn(self._replace_when_ended(backend))

    def _take(self, backend: Backend) -> None:
        self._current = backend
        for facts in backend.facts.values():
            self.metrics.serving(facts)

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
        log.error("the worker ended", extra={"reason": backend.reason, "versions": _versions(backend)})
        await backend.close()
        lived = asyncio.get_running_loop().time() - started
        self._deaths = 1 if lived > HEALTHY else self._deaths + 1
        await self._reopen()

    async def _reopen(self) -> None:
        """Try until a worker is open: the versions that were served, or after a failure the current ones."""
        failures = 0
        await asyncio.sleep(self._pause())
        while not self._closing:
            try:
                backend = await self._open({} if failures % 2 else self._pointers)
            except Exception as error:  # whatever it is, the next try may work, and nobody else makes one
                said = str(error) if isinstance(error, TandemError) else where(error)
                log.error("the worker could not be started", extra={"error": said})
                await asyncio.sleep(FAILED[min(failures, len(FAILED) - 1)])
                failures += 1
                continue
            if self._current is None:
                self._supervise(backend)
                await self._announce(backend)
                log.info("the worker was started again", extra={"versions": _versions(backend)})
            else:  # a swap came first
                await backend.close()
            return

    def _spawn(self, work: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _versions(backend: Backend) -> dict[str, str]:
    return {name: facts.version for name, facts in backend.facts.items()}


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
