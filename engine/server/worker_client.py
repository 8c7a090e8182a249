"""A worker process as a backend: calls go out as frames, a watchdog ends it when it is stuck."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import sys
import time
from collections.abc import Coroutine, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from ..errors import EngineError
from . import codec
from .backend import OnBatch, WorkerFault, WorkerLost
from .engines import Wanted
from .logs import where
from .model_info import Facts, Load
from .places import ANYWHERE, WorkerPlace
from .rpc_calls import Call
from .settings import ServerSettings

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
# How often the watchdog looks.
LOOK_SECONDS = 0.25
WORKER = (sys.executable, "-m", "tandem.engine.server.worker")
_FACTS = TypeAdapter(dict[str, Facts])


class Remote:
    """One worker process with open engines; `start` makes it."""

    facts: dict[str, Facts]

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_batch: OnBatch | None,
    ) -> None:
        self.ended = asyncio.Event()
        self.reason = ""
        self.load = Load()
        self.process = process
        self._reader = reader
        self._writer = writer
        self._on_batch = on_batch
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[Call[Any], asyncio.Future[Any]]] = {}
        self._heard = time.monotonic()
        self._overdue = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(
        cls,
        collections: Sequence[Wanted],
        settings: ServerSettings,
        on_batch: OnBatch | None = None,
        *,
        place: WorkerPlace = ANYWHERE,
        command: Sequence[str] = WORKER,
    ) -> Remote:
        """Start a worker (`command` and the number of its socket) at a place, and wait until its engines are open and
        warm.

        Raises what `Engine.open` raises, or EngineError when the worker ends or takes longer than `open_timeout_ms`.
        """
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise EngineError(f"a worker process cannot be started ({error.strerror}); see ulimit -n") from error
        with theirs:
            # A session of its own: Ctrl-C in a terminal is for the parent, which drains first.
            try:
                process = await asyncio.create_subprocess_exec(
                    *command, str(theirs.fileno()), pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True, env={**os.environ, **place.environment},
                )  # fmt: skip
            except OSError as error:
                ours.close()
                raise EngineError(f"a worker process cannot be started ({error.strerror}); see ulimit -u") from error
        remote = cls(process, *await asyncio.open_unix_connection(sock=ours), on_batch)
        try:
            async with asyncio.timeout(settings.open_timeout_ms / 1e3):
                remote.facts = await remote._opened(collections, settings, place)
        except TimeoutError:
            raise EngineError(
                f"the worker did not open {_named(collections)} within {settings.open_timeout_ms:.0f} ms; raise "
                "open_timeout_ms"
            ) from None
        finally:
            if not hasattr(remote, "facts"):
                await remote.close()
        remote._heard = time.monotonic()
        for work in (remote._listen(), remote._watch(settings.watchdog_ms / 1e3)):
            remote._spawn(work)
        return remote

    async def run(self, call: Call[Answer], name: str) -> Answer:
        """Raises what the engine raised, or WorkerLost when the worker ended first; cancelling drops what waits."""
        if self.ended.is_set():
            raise WorkerLost(self.reason)
        number = next(self._numbers)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (call, future)
        try:
            self._send(codec.call_frame(number, call, name))
            return await future
        except asyncio.CancelledError:
            with contextlib.suppress(WorkerLost):
                self._send(codec.frame({"cancel": number}))
            raise
        finally:
            self._waiting.pop(number, None)

    def _send(self, data: bytes) -> None:
        # It closes a moment before anybody hears how the process ended, and a closed one raises RuntimeError.
        if self._writer.is_closing():
            self.kill("its socket is closed")
            raise WorkerLost(self.reason)
        self._writer.write(data)

    async def close(self) -> None:
        """End the worker: it leaves when its socket closes, and is killed when it does not."""
        self._finish("it was closed")
        for task in self._tasks:
            task.cancel()
        self._writer.close()
        try:
            await asyncio.wait_for(self.process.wait(), 5.0)
        except TimeoutError:
            self.kill("it did not end when it was asked to")
            await self.process.wait()

    def kill(self, reason: str) -> None:
        """SIGKILL; whatever waits gets WorkerLost."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self._finish(reason)

    async def _opened(
        self, collections: Sequence[Wanted], settings: ServerSettings, place: WorkerPlace
    ) -> dict[str, Facts]:
        chosen = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in {**settings.engine_settings(), **place.settings}.items()
        }  # fmt: skip
        wanted = [{**asdict(each), "path": str(each.path)} for each in collections]
        self._writer.write(codec.frame({"collections": wanted, "settings": chosen}))
        found = await codec.read_frame(self._reader)
        if found is None:
            code = await self.process.wait()
            raise EngineError(
                f"the worker ended with {_ending(code)} while it opened {_named(collections)}; its log says more"
            )
        if "error" in found[0]:
            error = codec.error_of(found[0]["error"])
            if isinstance(error, WorkerFault):
                raise EngineError(f"the worker could not open {_named(collections)}: {error}; its log says more")
            raise error
        return _FACTS.validate_python(found[0]["answer"])

    async def _listen(self) -> None:
        """Hand on each answer, until the worker is gone."""
        while (found := await codec.read_frame(self._reader)) is not None:
            self._heard = time.monotonic()
            document, blob = found
            if "beat" in document:
                self._beaten(document["beat"])
            elif document["id"] in self._waiting:  # else its caller left in the meantime
                self._answered(*self._waiting[document["id"]], document, blob)
        self.kill(f"it ended with {_ending(await self._code())}")

    def _answered(self, call: Call[Any], future: asyncio.Future[Any], document: codec.Document, blob: bytes) -> None:
        if future.done():
            return
        if "error" in document:
            future.set_exception(codec.error_of(document["error"]))
            return
        try:
            future.set_result(call.unpack(document["answer"], blob))
        except (KeyError, TypeError, ValueError) as error:  # a fault of ours is this call's alone
            log.error("an answer cannot be read", extra={"error": where(error)})
            future.set_exception(WorkerFault("the worker's answer cannot be read"))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _beaten(self, beat: dict[str, Any]) -> None:
        self.load.jobs, self.load.tokens, self._overdue = beat["jobs"], beat["tokens"], beat["overdue"]
        for name, drifts in beat["drift"].items():
            if (facts := self.facts.get(name)) is not None:
                for model, drift in zip(facts.models, drifts, strict=False):
                    model.cost.pace.drift = drift
        if self._on_batch is not None:
            for sequences, tokens in beat["batches"]:
                self._on_batch(sequences, tokens)

    async def _watch(self, limit: float) -> None:
        """End a worker whose micro-batch is overdue for `limit` seconds, or of which nothing is heard so long."""
        while not self.ended.is_set():
            looked = time.monotonic()
            await asyncio.sleep(LOOK_SECONDS)
            if time.monotonic() - looked > 1.0 + LOOK_SECONDS:
                self._heard = time.monotonic()  # it is this process that stood still
            silent = time.monotonic() - self._heard
            if silent > limit:
                self.kill(f"nothing was heard of it for {silent:.1f} s")
            elif self._overdue > limit:
                self.kill(f"a micro-batch was overdue for {self._overdue:.1f} s")

    async def _code(self) -> int | None:
        """The exit status of a process whose socket closed; it may need a moment to end, and may never."""
        try:
            return await asyncio.wait_for(self.process.wait(), 1.0)
        except TimeoutError:
            return None

    def _finish(self, reason: str) -> None:
        if self.ended.is_set():
            return
        self.reason = reason
        self.ended.set()
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(WorkerLost(reason))


def _named(collections: Sequence[Wanted]) -> str:
    return ", ".join(str(each.path) for each in collections) or "nothing"


def _ending(code: int | None) -> str:
    if code is None:
        return "a closed socket"
    return f"signal {-code}" if code < 0 else f"exit status {code}"
