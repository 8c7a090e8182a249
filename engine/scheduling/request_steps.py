"""A request as a story: a generator that yields futures of the device thread and is resumed with their results.

Written once, driven by blocking or by awaiting; its clock counts what each stage took and knows the deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from ..errors import EngineClosed
from ..result import Timings
from .batcher import UNSERVED
from .job import Served

T = TypeVar("T")
Steps = Generator[Future[Served], Served | None, T]
# Kept back from a budget for fusing the scores, fetching ten texts (0.3 ms) and what a micro-batch takes longer than
# its estimate: with 2 ms, 2 of 12 searches of 250 ms came up to 2 ms late.
FINISH_SECONDS = 0.005


class Clock:
    """Stopwatch of one search: laps of the caller's own work, seconds that the device thread reports, one deadline."""

    def __init__(self, budget_ms: float | None) -> None:
        self._start = self._mark = time.monotonic()
        self._seconds = dict.fromkeys(("tokenize", "encode", "recall", "fetch", "queue", "rerank"), 0.0)
        self.deadline = None if budget_ms is None else self._start + budget_ms / 1e3 - FINISH_SECONDS

    def late(self) -> float:
        """Seconds past the budget: 0 within it, and without one."""
        if self.deadline is None:
            return 0.0
        return max(0.0, time.monotonic() - self.deadline - FINISH_SECONDS)

    def mark(self) -> None:
        """Begin a lap."""
        self._mark = time.monotonic()

    def lap(self, stage: str) -> None:
        """End the lap and count it for `stage`."""
        self.spent(**{stage: time.monotonic() - self._mark})

    def spent(self, **seconds: float) -> None:
        """Count seconds for stages."""
        for stage, value in seconds.items():
            self._seconds[stage] += value

    def timings(self) -> Timings:
        """Everything so far, in milliseconds."""
        total = time.monotonic() - self._start
        return Timings(**{stage: value * 1e3 for stage, value in self._seconds.items()}, total=total * 1e3)


def drive(story: Steps[T], future: Future[Served] | None = None) -> T:
    """Run a story to its end, blocking on each device stage; `future` is the one it already waits for."""
    try:
        waiting = next(story) if future is None else future
        while True:
            waiting = story.send(waiting.result())
    except StopIteration as end:
        result: T = end.value
        return result


def drive_together(stories: Sequence[Steps[T]]) -> list[T]:
    """Run stories to their ends, stage by stage: what all of them wait for is on the device together."""
    steps = [advance(story, None) for story in stories]
    while any(isinstance(step, Future) for step in steps):
        steps = [
            advance(story, step.result()) if isinstance(step, Future) else step
            for story, step in zip(stories, steps, strict=True)
        ]
    return [step for step in steps if not isinstance(step, Future)]


async def drive_async(story: Steps[T], steps: ThreadPoolExecutor) -> T:
    """Run a story to its end, its own work on `steps`, awaiting its result; cancelling it drops what waits.

    Raises EngineClosed, besides what the story raises, when `steps` is shut down before the end.
    """
    awaited = _Awaited(story, steps)
    try:
        return await asyncio.wrap_future(awaited.result)
    except asyncio.CancelledError:
        awaited.abandon()
        raise


class _Awaited(Generic[T]):
    """A story that goes from `steps` to the device and back by itself: the event loop is woken once, for the result.

    A wake-up of a thread costs some 50 µs, and a loop that is busy answering others may take milliseconds.
    """

    def __init__(self, story: Steps[T], steps: ThreadPoolExecutor) -> None:
        self.result: Future[T] = Future()
        self._story = story
        self._steps = steps
        self._waiting: Future[Served] | None = None
        self._go_on(None)

    def abandon(self) -> None:
        """Nobody waits for the result: drop the job on the device, or the one that a step under way submits."""
        self.result.cancel()
        if (waiting := self._waiting) is not None:
            waiting.cancel()

    def _go_on(self, waited: Future[Served] | None) -> None:
        self._waiting = None  # its callbacks lead here: a ring that only the garbage collector would open
        try:
            step = self._steps.submit(self._advance, waited)
        except RuntimeError:  # it is shut down
            self._fail(EngineClosed(UNSERVED))
        else:
            step.add_done_callback(self._stepped)

    def _stepped(self, step: Future[None]) -> None:
        if step.cancelled():
            self._fail(EngineClosed(UNSERVED))

    def _advance(self, waited: Future[Served] | None) -> None:
        if self.result.cancelled():
            return
        try:
            outcome = advance(self._story, None if waited is None else waited.result())
        except BaseException as error:  # whatever it is, whoever awaits the result must hear of it
            self._fail(error)
            return
        if not isinstance(outcome, Future):
            if self.result.set_running_or_notify_cancel():
                self.result.set_result(outcome)
            return
        self._waiting = outcome  # before the look at `result`, as `abandon` cancels that first
        if self.result.cancelled():
            outcome.cancel()
        else:
            outcome.add_done_callback(self._go_on)

    def _fail(self, error: BaseException) -> None:
        if self.result.set_running_or_notify_cancel():
            self.result.set_exception(error)


def advance(story: Steps[T], served: Served | None) -> Future[Served] | T:
    """Resume a story (None: begin it): the future it waits for next, or its result when that was all."""
    try:
        return next(story) if served is None else story.send(served)
    except StopIteration as end:
        result: T = end.value
        return result


def served_to(sent: Served | None) -> Served:
    if sent is None:
        raise TypeError("a story is resumed with what the device thread served")
    return sent
