"""Contestants measured in turns, so that a slow minute of the machine hits all of them; callers who ask at once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ..engine.collection.report import Progress, silent
from .document import said

FEWEST = 3
"""Rounds, however long they take."""
WARM = -1
"""The number of a round that is not counted: what a first call allocates or compiles is not what the next one takes."""
Name = TypeVar("Name", bound=Hashable)
T = TypeVar("T")
Work = TypeVar("Work")


class Unavailable(Exception):
    """A contestant that cannot take part here; the message is the reason, and goes into the result."""


def in_turns(
    contestants: Mapping[Name, Callable[[int], T]],
    rounds: int,
    *,
    seed: int = 0,
    warm_up: int = 1,
    settle: float = 0.0,
    seconds: float = float("inf"),
    failing: type[Exception] = Unavailable,
    progress: Progress = silent,
    what: str = "rounds",
) -> tuple[dict[Name, list[T]], dict[Name, str]]:
    """Name → what that contestant gave in each round, and the reason of each that raised `failing` in one.

    Each is called with the round's number, in an order that changes with every round; before them with WARM.

    settle:  seconds before each call: threads of the contestant before wait by spinning for about that long
    seconds: after so many no further round is begun, once there are FEWEST
    """
    taken: dict[Name, list[T]] = {name: [] for name in contestants}
    failed: dict[Name, str] = {}
    shuffle = random.Random(seed)
    end = float("inf")
    for turn in [*[WARM] * warm_up, *range(rounds)]:
        if turn == 0:
            end = time.perf_counter() + seconds
        if turn >= FEWEST and time.perf_counter() >= end:
            break
        for name in shuffle.sample(list(taken), len(taken)):
            time.sleep(settle)
            try:
                given = contestants[name](turn)
            except failing as error:
                failed[name] = str(error) if isinstance(error, Unavailable) else said(error)
                del taken[name]
            else:
                if turn >= 0:
                    taken[name].append(given)
        progress(turn + 1, rounds, what)
    return taken, failed


def ms_of(run: Callable[[], object]) -> float:
    """Milliseconds that `run` takes, as a caller sees them."""
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def at_once(
    ask: Callable[[Work], float], work: Iterator[Work], callers: int
) -> tuple[float, list[float], list[Exception]]:
    """Seconds until `callers`, each of whom asks again when it is answered, have asked all of `work`; what each answer
    took, as `ask` tells it; and the errors, each of which ended a caller.

    `work` is taken from by several threads: an iterator of Python's own, not a generator.
    """
    errors: list[Exception] = []

    def caller(_: int) -> list[float]:
        took: list[float] = []
        try:
            for each in work:
                took.append(ask(each))
        except Exception as error:  # of a thread, where nobody would see it
            errors.append(error)
        return took

    start = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        taken = [ms for each in pool.map(caller, range(callers)) for ms in each]
    return time.perf_counter() - start, taken, errors
