"""A request while it is served: what may end it before it is done."""

from __future__ import annotations

import asyncio
from typing import Literal

Ending = Literal["late", "gone", "aborted"]


class InFlight:
    """The current task's request. `done` is set when its work is over, however; its answer may be on its way still."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self.done: asyncio.Future[None] = task.get_loop().create_future()
        self.ending: Ending | None = None

    def end(self, why: Ending) -> None:
        """Cancel it, unless it is done or being ended already."""
        if self.ending is None and not self.done.done():
            self.ending = why
            self._task.cancel()

    def settle(self) -> bool:
        """Take back the cancellation that has arrived where it was `end`'s; whether it goes no further than here.

        What was given up inside, as by an engine that closes, counts as aborted. False: the task itself is to end.
        """
        if self.ending is not None:
            return self._task.uncancel() == 0
        self.ending = "aborted"
        return self._task.cancelling() == 0
