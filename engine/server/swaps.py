"""What is served: new versions of collections, and collections that come and go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..collection import Pointer, read_pointer
from ..collection.creating import create_like, drop_collection
from ..config import SearchSettings
from ..errors import CollectionError, TandemError
from .aside import aside
from .backend import Backend, WorkerFault, WorkerLost
from .logs import where
from .model_info import Facts
from .rpc_calls import Close, Open, Refresh, SearchCall
from .supervisor import Host

log = logging.getLogger(__name__)
REFRESH = Refresh(client="")
# What is opened anew answers this before anybody else asks it: pages are read, and what does not work is found.
PROBE = SearchCall(client="", query="warm", settings=SearchSettings(budget_ms=None))
_FAULTS = (TandemError, WorkerLost, WorkerFault)


class Swaps:
    """Opens and moves the backends of a host. One change at a time; belongs to the event loop."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._catalogue = host.catalogue
        self._metrics = host.metrics
        self._refused: dict[str, Pointer | str] = {}
        self._changing = asyncio.Lock()
        host.settle = self._settle

    async def open(self) -> dict[str, Facts]:
        """Open the current versions, and from now on replace backends that end; raises what opening raises."""
        catalogue = self._catalogue
        pointers = {name: await aside(read_pointer, path) for name, path in catalogue.paths.items()}
        needed = [name for name in catalogue.keys if name in catalogue.needed or name not in catalogue.paths]
        backends = await self._host.open_all(catalogue.wanted(pointers, needed))
        catalogue.pointers = pointers
        await self._host.take(backends)
        return self._host.facts

    async def watch(self, seconds: float) -> None:
        """Swap whenever a collection's pointer moves, looked at every so many `seconds`."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.swap()
            except Exception as error:  # the next look may work, and nobody else looks
                log.error("looking for a new version failed", extra={"error": where(error)})

    async def reload(self) -> bool:
        """`swap` also to the version that is served; goes on when whoever asked for it leaves."""
        return await self._host.tasks.whole(self.swap(force=True))

    async def swap(self, names: Iterable[str] | None = None, *, force: bool = False) -> bool:
        """Serve the versions that the collections' pointers name now (of `names`, or of all), where one is another (or
        `force`); True when it does.

        Where the models are the same, the backends that serve move to it (see `Engine.refresh`). Otherwise, and with
        `force`, others are opened beside them and asked a question before any request sees them. A version that cannot
        be opened is refused, and the old one goes on.
        """
        async with self._changing:
            living = self._host.living
            if not living and not force:
                return False  # what opens again opens what was served; the next look finds what is new
            await self._close_gone(living)
            moved, anew, opened = False, dict[str, Pointer](), set(self._host.facts)
            for name in self._catalogue.names if names is None else names:
                pointer = await self._newer(name, force=force)
                if pointer is None:
                    continue
                error = None if force else await self._move(name, pointer)
                if force or (error is not None and name in opened):
                    anew[name] = pointer
                elif error is not None:  # it was left out, and cannot be opened yet
                    self._refuse(name, pointer, str(error))
                else:
                    moved = True
            if not self._host.opens:
                for name, pointer in anew.items():
                    self._refuse(name, pointer, "this server cannot open collections: its engine was given to it")
            elif anew or (force and self._catalogue.models):
                moved = await self._replace(anew, opened if force else opened | set(anew)) or moved
            return moved

    async def _newer(self, name: str, *, force: bool) -> Pointer | None:
        """What a collection's pointer names, unless every backend serves that, or it was refused."""
        path = self._catalogue.paths.get(name)
        if path is None:
            return None
        try:
            pointer = await aside(read_pointer, path)
        except TandemError as error:
            self._refuse(name, str(error), str(error))
            return None
        if force or pointer is None:
            return pointer
        if pointer == self._refused.get(name):
            return None
        if pointer != self._catalogue.pointers.get(name):
            return pointer
        serving = (backend.facts.get(name) for backend in self._host.living)
        behind = any(facts is None or facts.version != pointer.version for facts in serving)
        return pointer if behind else None

    async def _move(self, name: str, pointer: Pointer) -> Exception | None:
        """Have the backends go on to a version of what they have open: no model is loaded again, and what is not new is
        not read again. Returns why one of them cannot.
        """
        path = self._catalogue.paths[name]
        error = await self._bring_all(self._host.living, name, path, pointer)
        there = self._host.living  # one that ended meanwhile opens again what is served then
        if error is None and not there:
            error = self._host.absent()
        if error is not None:
            log.info("the version cannot be moved to", extra={"collection": name, "error": str(error)})
            return error
        self._catalogue.pointers[name] = pointer
        self._swapped("moved", name, next(backend.facts[name] for backend in there if name in backend.facts))
        return None

    async def _bring_all(
        self, backends: Sequence[Backend], name: str, path: Path, pointer: Pointer
    ) -> Exception | None:
        """Have `backends` serve a version; the first error where one cannot. One that ends is no error of the version
        while another does it."""
        brought = (_bring(backend, name, path, pointer) for backend in backends)
        found = await asyncio.gather(*brought, return_exceptions=True)
        for error in found:
            if isinstance(error, BaseException) and not isinstance(error, TandemError | WorkerLost):
                raise error
        errors = [error for error in found if isinstance(error, TandemError)]
        lost = [error for error in found if isinstance(error, WorkerLost)]
        if not errors and lost and len(lost) == len(found):
            errors = [CollectionError(f"the worker ended while it opened {name} ({lost[0]}); its log says more")]
        return errors[0] if errors else None

    async def _replace(self, anew: Mapping[str, Pointer], needed: Container[str]) -> bool:
        """Open other backends, with the versions `anew` and the others as served; False when they are refused, as they
        are where one of the `needed` ones cannot be opened. Of several new versions each is tried alone then."""
        pointers = {**self._catalogue.pointers, **anew}
        try:
            fresh = await self._host.open_all(self._catalogue.wanted(pointers, needed))
        except TandemError as error:
            return await self._refuse_all(anew, needed, error)
        anew = {name: pointer for name, pointer in anew.items() if all(name in each.facts for each in fresh)}
        try:
            for name in anew:
                await asyncio.gather(*(backend.run(PROBE, name) for backend in fresh))
        except BaseException as error:
            await asyncio.gather(*(backend.close() for backend in fresh))
            if not isinstance(error, _FAULTS):
                raise
            return await self._refuse_all(anew, needed, error)
        self._catalogue.pointers = pointers
        await self._host.take(fresh)
        for name in anew:
            self._swapped("swapped", name, fresh[0].facts[name])
        if not anew:
            self._metrics.swaps.labels("done").inc()
            log.info("opened again", extra={"models": list(self._catalogue.models)})
        return True

    async def _refuse_all(self, anew: Mapping[str, Pointer], needed: Container[str], error: Exception) -> bool:
        """Refuse the one new version, or find out of several which is to be refused."""
        if len(anew) > 1:
            return any([await self._replace({name: pointer}, needed) for name, pointer in anew.items()])
        for name, pointer in anew.items():
            self._refuse(name, pointer, str(error))
            self._take_back(name)
        if not anew:
            self._metrics.swaps.labels("refused").inc()
            log.error("the models cannot be opened again; the old ones go on", extra={"error": str(error)})
        return False

    def _take_back(self, name: str) -> None:
        """End the workers that have moved to a version that is refused: they open again what the others serve."""
        served = self._catalogue.pointers.get(name)
        for backend in self._host.living:
            facts = backend.facts.get(name)
            if served is not None and facts is not None and facts.version != served.version:
                self._host.tasks.spawn(backend.close())

    def _swapped(self, how: str, name: str, facts: Facts) -> None:
        self._refused.pop(name, None)
        self._metrics.serving(facts)
        self._metrics.swaps.labels("done").inc()
        log.info(how, extra={"collection": name, "version": facts.version, "passages": facts.passages})

    def _refuse(self, name: str, what: Pointer | str, why: str) -> None:
        if what == self._refused.get(name):
            return
        self._refused[name] = what
        self._metrics.swaps.labels("refused").inc()
        facts = self._host.facts.get(name)
        log.error(
            "the new version was refused; the old one goes on",
            extra={"collection": name, "error": why, "serving": None if facts is None else facts.version},
        )

    async def add(self, name: str, path: Path, like: Path | None = None) -> Facts:
        """Serve one more collection, beside the others and with their models where these are the same; goes on when
        whoever asked for it leaves.

        like: the collection is made first, empty, as this one is; where it cannot be served it is removed again

        It is asked a question before any request sees it. Raises CollectionError and whatever opening raises; Failure
        `unavailable` while there is no backend.
        """
        return await self._host.tasks.whole(self._add(name, path, like))

    async def _add(self, name: str, path: Path, like: Path | None) -> Facts:
        async with self._changing:
            if name in self._catalogue.paths:
                raise CollectionError(f"a collection {name} is served already")
            if like is None:
                return await self._serve(name, path)
            await aside(create_like, like, path)
            try:
                return await self._serve(name, path)
            except BaseException:
                with suppress(TandemError):
                    await aside(drop_collection, path)
                raise

    async def _serve(self, name: str, path: Path) -> Facts:
        pointer = await aside(read_pointer, path)
        if pointer is None:
            raise CollectionError(f"{name} is no collection: nothing was indexed there")
        living = self._host.living
        if not living:
            raise self._host.absent()
        if error := await self._bring_all(living, name, path, pointer):
            await _close(living, name)
            raise error
        self._catalogue.add(name, path, pointer)
        facts = next(backend.facts[name] for backend in living if name in backend.facts)
        self._swapped("loaded", name, facts)
        return facts

    async def remove(self, name: str) -> Path:
        """Serve a collection no more; requests for it that are under way are answered. Returns where it is.

        Goes on when whoever asked for it leaves. Raises CollectionError where no such collection is served.
        """
        return await self._host.tasks.whole(self._remove(name))

    async def _remove(self, name: str) -> Path:
        async with self._changing:
            if name not in self._catalogue.paths:
                raise CollectionError(f"no collection {name} is served")
            path = self._catalogue.remove(name)
            self._refused.pop(name, None)
            self._metrics.gone(name)
            await _close(self._host.living, name)
            log.info("unloaded", extra={"collection": name})
            return path

    async def _settle(self, backend: Backend) -> None:
        """Bring a backend that was opened again to what is served by now; later, where a change is under way that may
        take long: until then it is better than none."""
        if self._changing.locked():
            self._host.tasks.spawn(self._level(backend))
        else:
            await self._level(backend)

    async def _level(self, backend: Backend) -> None:
        async with self._changing:
            await self._close_gone([backend])
            for name, pointer in list(self._catalogue.pointers.items()):
                facts, path = backend.facts.get(name), self._catalogue.paths.get(name)
                if pointer is None or path is None or (facts is not None and facts.version == pointer.version):
                    continue
                try:
                    await _bring(backend, name, path, pointer)
                except Exception as error:  # it serves the rest; the next look at the pointers tries again
                    log.error("a worker is not up to date", extra={"collection": name, "error": where(error)})

    async def _close_gone(self, backends: Iterable[Backend]) -> None:
        """Close what a worker opened that is served no more: it was removed while the worker was started again."""
        for backend in backends:
            for name in self._catalogue.gone(list(backend.facts)):
                await _close([backend], name)


async def _bring(backend: Backend, name: str, path: Path, pointer: Pointer) -> None:
    """Have a backend serve a version, where it does not yet; raises TandemError when it cannot, WorkerLost when it
    ends."""
    facts = backend.facts.get(name)
    if facts is not None and facts.version == pointer.version:
        return
    try:
        if facts is None:
            facts = await backend.run(Open(client="", path=str(path), version=pointer), name)
            await backend.run(PROBE, name)
        else:
            facts = await backend.run(REFRESH, name)
    except WorkerFault as error:
        raise CollectionError(f"the worker failed while it opened {name} ({error}); its log says more") from None
    backend.facts[name] = facts  # of a newer version, where the pointer has moved once more


async def _close(backends: Iterable[Backend], name: str) -> None:
    for backend in backends:
        backend.facts.pop(name, None)
        with suppress(*_FAULTS):
            await backend.run(Close(client=""), name)
