"""Admission: a request's whole work is reserved before any of it is done, or refused with a time to come back.

What a request will take is predicted, and how far such predictions are too low is watched: a promise that is not kept
has cost as much as one that is. Nothing is lost by refusing early, since the device needs no more than a few requests
in hand to be busy all the time.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..scheduling.cost_model import CostModel, exit_saves
from .errors import Failure

# English text in WordPiece has four to five characters a token; a low figure over-estimates the work, which is safer.
CHARACTERS_A_TOKEN = 4
# Seconds of a request that no cost model knows: HTTP, tokens, two hops between processes.
BESIDE = 0.02
# How many times longer than predicted a request may take, at least and at most. Above it a machine is not slow but
# stuck, and a prediction says nothing.
LEAST_ERROR, MOST_ERROR = 1.1, 6.0
# One in a hundred of the admitted may take longer than promised. The margin is that quantile of what requests took by
# what was predicted, followed by steps of its logarithm: up by nearly STEP where one took longer, else down by a
# hundredth of that (Robbins and Monro, A Stochastic Approximation Method, 1951).
LATE_SHARE, STEP = 0.01, 0.25
# Besides it falls with time, to a third in so long: what was slow a minute ago need not be now.
FORGET_SECONDS = 60.0
# Beyond this a client should not be told to wait: it is a guess of a guess.
LONGEST_WAIT = 60


@dataclass(frozen=True, slots=True)
class Work:
    """What a request will cost the device: tokens, and seconds by the cost model."""

    tokens: int
    seconds: float

    def __add__(self, other: Work) -> Work:
        return Work(self.tokens + other.tokens, self.seconds + other.seconds)

    def within(self, at_most: float | None) -> Work:
        """The same where a budget of `at_most` seconds, if any, cuts it off."""
        return self if at_most is None else Work(self.tokens, max(0.0, min(self.seconds, at_most)))


def search_work(
    lengths: npt.NDArray[np.int64],
    cost: CostModel,
    early: CostModel | None,
    finalists: int | None,
    windows: npt.NDArray[np.int64],
    at_most: float | None,
) -> Work:
    """The estimate for a search's candidates: all through `early`, and `finalists` of them through all layers, where
    that saves something; else all through all layers. Besides, the `windows` that are read again."""
    work = work_of(windows, cost)
    if early is None or not exit_saves(lengths, cost, early, finalists):
        work += work_of(lengths, cost)
    else:
        work += work_of(lengths, early) + work_of(lengths[:finalists], cost)
    return work.within(at_most)


def work_of(lengths: npt.NDArray[np.int64], cost: CostModel, *, at_most: float | None = None) -> Work:
    """The work of sequences of `lengths` tokens; `at_most` seconds where a budget cuts it off."""
    return Work(int(lengths.sum()), float(cost.each(lengths).sum())).within(at_most)


def lengths_of(characters: npt.NDArray[np.int64], beside: int, max_length: int) -> npt.NDArray[np.int64]:
    """int64 [n]: estimated tokens of texts with so many `characters`, with `beside` other tokens in their sequence."""
    return np.minimum(characters // CHARACTERS_A_TOKEN + 1 + beside, max_length)


@dataclass(slots=True)
class _Line:
    """What one worker was given: by all, and by client."""

    tokens: int = 0
    seconds: float = 0.0
    requests: int = 0
    seconds_of: dict[str, float] = field(default_factory=dict)
    requests_of: Counter[str] = field(default_factory=Counter)

    def add(self, work: Work, client: str) -> None:
        self.tokens += work.tokens
        self.seconds += work.seconds
        self.requests += 1
        self.requests_of[client] += 1
        self.seconds_of[client] = self.seconds_of.get(client, 0.0) + work.seconds

    def remove(self, work: Work, client: str) -> None:
        self.tokens -= work.tokens
        self.requests -= 1
        self.seconds = self.seconds - work.seconds if self.requests else 0.0
        self.seconds_of[client] -= work.seconds
        self.requests_of[client] -= 1
        if not self.requests_of[client]:
            del self.requests_of[client], self.seconds_of[client]


class Admission:
    """The work of all admitted requests, a line a worker. Belongs to the event loop."""

    def __init__(self, max_tokens: int, max_requests: int) -> None:
        """`max_tokens` of each worker, `max_requests` of all together."""
        self._max_tokens = max_tokens
        self._max_requests = max_requests
        self._lines: defaultdict[int, _Line] = defaultdict(_Line)
        self._learnt = time.monotonic()
        self.error = LEAST_ERROR
        """How many times longer than predicted a request takes that is among the slowest hundredth."""

    @property
    def tokens(self) -> int:
        """Tokens of all that is admitted."""
        return sum(line.tokens for line in self._lines.values())

    @property
    def requests(self) -> int:
        """Requests that are admitted."""
        return sum(line.requests for line in self._lines.values())

    def seconds(self, worker: int = 0) -> float:
        """Predicted seconds of what a worker was given."""
        return self._lines[worker].seconds

    @contextmanager
    def reserve(
        self, work: Work, remaining: float, client: str = "", worker: int = 0
    ) -> Iterator[Callable[[int], None]]:
        """Hold `work` for the length of a request of `client` that has `remaining` seconds left, and goes to `worker`.
        Gives what moves it to another worker.

        Raises Failure `overloaded` when it cannot be done in that time, or not beside what is admitted already. An idle
        worker takes anything: the estimate may be wrong, and the deadline tells.
        """
        line = self._lines[worker]
        predicted = BESIDE + self.expected(work, client, worker)
        if line.requests:
            self._check(line, work, predicted, remaining)
        line.add(work, client)
        begun = time.monotonic()

        def move(worker: int) -> None:
            nonlocal line
            line.remove(work, client)
            line = self._lines[worker]
            line.add(work, client)

        try:
            yield move
            if work.seconds > BESIDE:  # below it, what no model knows is most of the time
                self._learn((time.monotonic() - begun) / predicted)
        except asyncio.CancelledError:
            # Late, or nobody waits any more: a promise that is broken is learnt from, one that is not is no news.
            if work.seconds > BESIDE and time.monotonic() - begun > self.error * predicted:
                self._learn(math.inf)
            raise
        finally:
            line.remove(work, client)

    def expected(self, work: Work, client: str, worker: int = 0) -> float:
        """Seconds until `work` of `client` is done by `worker`, beside what that was given already.

        Clients take turns at the device, so one that asks for little waits for as much of each other's, not for all. A
        request's work counts whole until it ends, though its client's are done one after the other.
        """
        given = self._lines[worker].seconds_of
        own = given.get(client, 0.0) + work.seconds
        others = (seconds for name, seconds in given.items() if name != client)
        return own + sum(min(own, seconds) for seconds in others)

    def _learn(self, ratio: float) -> None:
        """A request took `ratio` times what was predicted when it was admitted, or was given up then."""
        now = time.monotonic()
        step = STEP * ((ratio > self.error) - LATE_SHARE) - (now - self._learnt) / FORGET_SECONDS
        self.error = min(max(self.error * math.exp(step), LEAST_ERROR), MOST_ERROR)
        self._learnt = now

    def _check(self, line: _Line, work: Work, predicted: float, remaining: float) -> None:
        late = self.error * predicted - remaining
        if late > 0:
            raise _full(late, "late", "this request would not be done in time behind those that are being served")
        if line.tokens + work.tokens > self._max_tokens or self.requests >= self._max_requests:
            raise _full(line.seconds / 2, "full", "the server has as much work as it holds")


def _full(seconds: float, reason: str, why: str) -> Failure:
    # Jittered: clients refused together must not come back together.
    wait = min(max(1, math.ceil(seconds * random.uniform(1.0, 1.5))), LONGEST_WAIT)
    return Failure("overloaded", f"{why}; try again in {wait} s", retry_after=wait, reason=reason)
