"""A request as a coroutine that awaits jobs of the device thread: how it is driven, and the clock that times it.

Written once, a request is driven by blocking, together with others, or under asyncio. Plain `asyncio` coroutines cost
some 80 µs more a search of three jobs than generators that resume themselves (bench/LOG.md), and need no machinery.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from ..errors import EngineClosed
from ..result import Timings
from .batcher import UNSERVED

T = TypeVar("T")
Request = Coroutine[Future[Any], None, T]
# Kept back from a budget for fusing the scores, fetching ten texts (0.3 ms) and what a micro-batch takes longer than
# its estimate: with 2 ms, 2 of 12 searches of 250 ms came up to 2 ms late.
FINISH_SECONDS = 0.005


class Clock:
    """Stopwatch of one search: laps of the caller's own work, seconds that the device thread reports, one deadline."""

    def __init__(self, budget_ms: float | None, before: float = 0.0) -> None:
        """`before`: seconds of the search that have passed already."""
        self._mark = time.monotonic()
        self._start = self._mark - before
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


def drive(request: Request[T]) -> T:
    """Run a request to its end, blocking while a job runs."""
    return drive_together([request])[0]


def drive_together(requests: Sequence[Request[T]]) -> list[T]:
    """Run requests to their ends, job by job: what all of them wait for is on the device together.

    Raises what the first of them raises; the others are dropped then.
    """
    try:
        outcomes = [advance(request) for request in requests]
        while any(isinstance(outcome, Future) for outcome in outcomes):
            for place, outcome in enumerate(outcomes):
                if isinstance(outcome, Future):
                    outcome.exception()  # waits; the request itself raises it
                    outcomes[place] = advance(requests[place])
        return [outcome for outcome in outcomes if not isinstance(outcome, Future)]
    finally:
        for request in requests:
            request.close()


async def drive_async(request: Request[T], steps: ThreadPoolExecutor) -> T:
    """Run a request to its end, its own work on `steps`, awaiting its jobs; cancelling it drops the job it waits for.

    Raises EngineClosed, besides what the request raises, when `steps` is shut down before the end.
    """
    try:
        while isinstance(outcome := await _step(request, steps), Future):
            with suppress(Exception):  # the request itself raises what its job failed with
                await asyncio.wrap_future(outcome)
        return outcome
    finally:
        with suppress(ValueError):  # a step that is under way ends by itself
            request.close()


async def _step(request: Request[T], steps: ThreadPoolExecutor) -> Future[Any] | T:
    """Resume a request on `steps`: the future that it waits for next, or its result."""
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        step = steps.submit(advance, request)
    except RuntimeError as error:  # it is shut down
        raise EngineClosed(UNSERVED) from error
    try:
        return await asyncio.wrap_future(step)
    except asyncio.CancelledError:
        if task is not None and task.cancelling() == before:
            raise EngineClosed(UNSERVED) from None  # not this request was cancelled, but all that waits for `steps`
        step.add_done_callback(_drop)
        raise


def _drop(step: Future[Any]) -> None:
    """Drop the job that a step under way submitted for nobody."""
    if not step.cancelled() and step.exception() is None and isinstance(job := step.result(), Future):
        job.cancel()


def advance(request: Request[T]) -> Future[Any] | T:
    """Begin or resume a request: the future it waits for next, or its result when that was all."""
    try:
        return request.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
