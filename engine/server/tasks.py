"""Work beside requests that ends with the server."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class Tasks:
    """Belongs to the event loop."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, work: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
        """Begin `work`, and hold it until it is done."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def whole(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """The answer of `work`, which is done to its end also when whoever waits for it leaves."""
        return await asyncio.shield(self.spawn(work))

    async def close(self) -> None:
        """Cancel what is not done, and wait until it has ended."""
        while running := list(self._running):  # one may begin others while it ends
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
