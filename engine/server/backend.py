"""Where calls are answered: an engine in this process, or one in a worker process (`worker_client`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

from ..engine import Engine
from .model_info import Facts, Load, facts_of
from .rpc_calls import Call

Answer = TypeVar("Answer")
OnBatch = Callable[[int, int], None]


class WorkerLost(Exception):
    """The worker ended before it answered; the same call may be made once more of another."""


class WorkerFault(Exception):
    """An error of the worker's own; its log says which."""


class Backend(Protocol):
    """An open engine, wherever it is."""

    facts: Facts
    ended: asyncio.Event
    """Set when it can answer no more."""
    reason: str
    """Why it ended."""

    @property
    def load(self) -> Load: ...

    async def run(self, call: Call[Answer]) -> Answer: ...

    async def close(self) -> None: ...


class Local:
    """An engine in this process: for embedding the server, and for tests. Nothing guards it against a crash."""

    def __init__(self, engine: Engine, on_batch: OnBatch | None = None) -> None:
        self.engine = engine
        self.facts = facts_of(engine)
        self.ended = asyncio.Event()
        self.reason = ""
        engine.batcher.on_batch = on_batch

    @property
    def load(self) -> Load:
        batcher = self.engine.batcher
        return Load(batcher.waiting_jobs, batcher.waiting_tokens)

    async def run(self, call: Call[Answer]) -> Answer:
        """Raises what the engine raises; cancelling it drops what waits."""
        return await call.run(self.engine)

    async def close(self) -> None:
        """Close the engine."""
        self.reason = "it was closed"
        self.ended.set()
        await asyncio.to_thread(self.engine.close)
