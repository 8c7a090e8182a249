"""Where calls are answered: engines in this process, or in a worker process (`worker_client`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from .engines import Engines, Wanted
from .model_info import Facts, Load
from .rpc_calls import Call

Answer = TypeVar("Answer")
OnBatch = Callable[[int, int], None]


class WorkerLost(Exception):
    """The worker ended before it answered; the same call may be made once more of another."""


class WorkerFault(Exception):
    """An error of the worker's own; its log says which."""


class Backend(Protocol):
    """Open engines, wherever they are."""

    facts: dict[str, Facts]
    """What is open, by name."""
    ended: asyncio.Event
    """Set when it can answer no more."""
    reason: str
    """Why it ended."""

    @property
    def load(self) -> Load: ...

    async def run(self, call: Call[Answer], name: str) -> Answer:
        """The answer of the engine of that name."""
        ...

    async def close(self) -> None: ...


class Local:
    """Engines in this process: for embedding the server, and for tests. Nothing guards them against a crash."""

    def __init__(self, engines: Engines, facts: dict[str, Facts], on_batch: OnBatch | None = None) -> None:
        self.facts = facts
        self.ended = asyncio.Event()
        self.reason = ""
        self.engines = engines
        engines.pool.batcher.on_batch = on_batch

    @classmethod
    def open(cls, collections: Sequence[Wanted], settings: dict[str, Any], on_batch: OnBatch | None = None) -> Local:
        """Open collections with the settings of `Engine.open`; raises what that raises."""
        engines = Engines(settings)
        try:
            return cls(engines, engines.open_all(collections), on_batch)
        except BaseException:
            engines.close_all()
            raise

    @property
    def load(self) -> Load:
        batcher = self.engines.pool.batcher
        return Load(batcher.waiting_jobs, batcher.waiting_tokens)

    async def run(self, call: Call[Answer], name: str) -> Answer:
        """Raises what the engine raises; cancelling it drops what waits."""
        return await call.run_of(self.engines, name)

    async def close(self) -> None:
        """Close the engines."""
        self.reason = "it was closed"
        self.ended.set()
        await asyncio.to_thread(self.engines.close_all)
