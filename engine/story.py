"""A request as a story: a generator that yields futures of the device thread and is resumed with their results.

Written once, driven by blocking or by awaiting; its clock counts what each stage took and knows the deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from .jobs import Served
from .result import Timings

T = TypeVar("T")
Story = Generator[Future[Served], Served | None, T]
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


def drive(story: Story[T], future: Future[Served] | None = None) -> T:
    """Run a story to its end, blocking on each device stage; `future` is the one it already waits for."""
    try:
        waiting = next(story) if future is None else future
        while True:
            waiting = story.send(waiting.result())
    except StopIteration as end:
        result: T = end.value
        return result


def drive_together(stories: Sequence[Story[T]]) -> list[T]:
    """Run stories to their ends, stage by stage: what all of them wait for is on the device together."""
    steps = [advance(story, None) for story in stories]
    while any(isinstance(step, Future) for step in steps):
        steps = [
            advance(story, step.result()) if isinstance(step, Future) else step
            for story, step in zip(stories, steps, strict=True)
        ]
    return [step for step in steps if not isinstance(step, Future)]


async def drive_async(story: Story[T], steps: ThreadPoolExecutor) -> T:
    """Run a story to its end, its own work on `steps`, awaiting each device stage; cancelling it drops what waits."""
    served: Served | None = None
    while True:
        step = steps.submit(advance, story, served)
        try:
            outcome = await asyncio.wrap_future(step)
        except asyncio.CancelledError:
            step.add_done_callback(_abandon)  # a step under way may still submit a job that nobody waits for
            raise
        if not isinstance(outcome, Future):
            return outcome
        waiting: Future[Served] = outcome
        served = await asyncio.wrap_future(waiting)


def advance(story: Story[T], served: Served | None) -> Future[Served] | T:
    """Resume a story (None: begin it): the future it waits for next, or its result when that was all."""
    try:
        return next(story) if served is None else story.send(served)
    except StopIteration as end:
        result: T = end.value
        return result


def _abandon(step: Future[Any]) -> None:
    if not step.cancelled() and step.exception() is None and isinstance(step.result(), Future):
        step.result().cancel()


def served_to(sent: Served | None) -> Served:
    if sent is None:
        raise TypeError("a story is resumed with what the device thread served")
    return sent
