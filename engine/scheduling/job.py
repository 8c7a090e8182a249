"""A job: the sequences that one request has for one model, and how far they were served. And the queue it waits in."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..text.tokens import TokenBatch
from .cost_model import CostModel

Stop = Callable[[], bool]
"""Whether what runs is to end after the sequence it is at."""


class Model(Protocol):
    """What a job runs on: one result for each sequence of a batch; an exception in a sequence's place fails its job."""

    cost: CostModel

    def run(self, batch: TokenBatch) -> Sequence[Any]: ...


@runtime_checkable
class Interruptible(Protocol):
    """A model that can be stopped between two sequences of a batch."""

    def run_until(self, batch: TokenBatch, stop: Stop) -> Sequence[Any]:
        """`Model.run`, but once `stop` says so no further sequence is begun: the results of the first, one or more.

        `stop` may be called by several threads at once.
        """
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """What became of a job.

    results: the model's result for each sequence, None where the deadline came first
    queued:  seconds waited before the first micro-batch; `running`: seconds from there to the end
    """

    results: list[Any]
    queued: float
    running: float

    @property
    def served(self) -> int:
        """How many sequences have a result."""
        return sum(result is not None for result in self.results)

    @property
    def logits(self) -> npt.NDArray[np.float32]:
        """float32 [n]: the results of a cross-encoder, NaN where the deadline came first."""
        return np.array([np.nan if logit is None else logit for logit in self.results], dtype=np.float32)


@dataclass(eq=False, slots=True)
class Job:
    """Sequences of one request for one model. What is not run by `deadline` (`time.monotonic` seconds) is cut."""

    model: Model
    batch: TokenBatch
    deadline: float | None = None
    urgent: bool = False
    """Served before every job that is not: recall goes before rerank."""
    client: str = ""
    """Whose it is: clients take turns."""
    future: Future[Served] = field(default_factory=Future)
    lengths: list[int] = field(init=False)
    block: int = field(init=False)
    """Sequences that are sorted by length together: all, or few where a deadline may cut the rest off."""
    order: list[int] = field(init=False)
    cursor: int = 0
    results: list[Any] = field(init=False)
    queued_at: float = field(default_factory=time.monotonic)
    asked_at: float | None = None
    """When its request came, where this is not the request's first job: what was begun is finished first."""
    compared: bool = False
    """Whether its sequences are among those that `Duplicates` knows."""
    seconds: float = field(init=False)
    """What all of it takes, by the cost model."""
    started_at: float | None = None

    def __post_init__(self) -> None:
        lengths = self.batch.lengths
        self.lengths = lengths.tolist()
        self.block = max(1, len(self.batch)) if self.deadline is None else self.model.cost.block
        self.order = serving_order(lengths, self.block).tolist()
        self.results = [None] * len(self.batch)
        self.seconds = float(self.model.cost.each(lengths).sum())

    def __await__(self) -> Generator[Future[Served], None, Served]:
        """Wait, inside a request that is driven (see `request_steps`), for what the device thread makes of the job."""
        if not self.future.done():
            try:
                yield self.future
            except GeneratorExit:  # the request is dropped, and its job with it
                self.future.cancel()
                raise
        return self.future.result()

    @property
    def waiting(self) -> int:
        """Sequences not yet run."""
        return len(self.order) - self.cursor

    @property
    def work(self) -> float:
        """Seconds of what is not yet run."""
        return self.seconds * self.waiting / max(1, len(self.order))

    def skip_answered(self) -> None:
        """Move the cursor past sequences that another job was served already."""
        while self.waiting and self.results[self.order[self.cursor]] is not None:
            self.cursor += 1

    def put_back(self, row: int) -> None:
        """Move the cursor back to a sequence that was taken and not run."""
        self.cursor = min(self.cursor, self.order.index(row))

    def store(self, rows: Sequence[int], results: Sequence[Any]) -> None:
        """Keep the results of the sequences `rows`, or fail with the first exception among them."""
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, Exception):
                return self.fail(result)
            self.results[row] = result

    def finish(self) -> None:
        """Hand what was served to the waiting caller; of a block that was cut, and of what lies behind it, nothing."""
        for row in self.order[self.cursor - self.cursor % self.block :] if self.waiting else ():
            self.results[row] = None
        now = time.monotonic()
        started = now if self.started_at is None else self.started_at
        self._settle(lambda: self.future.set_result(Served(self.results, started - self.queued_at, now - started)))

    def fail(self, error: Exception) -> None:
        """Hand `error` to the waiting caller."""
        self._settle(lambda: self.future.set_exception(error))

    def _settle(self, resolve: Callable[[], None]) -> None:
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            resolve()


def serving_order(lengths: npt.NDArray[np.int64], block: int) -> npt.NDArray[np.int64]:
    """int64 [n]: rows block by block as given, longest first inside each block, ties as given."""
    blocks = np.arange(len(lengths)) // max(block, 1)
    return np.lexsort((-lengths, blocks))


class FairQueue:
    """Waiting jobs. A client with a hundred of them has the same share of the device as a client with one.

    A client's jobs stand in the order of arrival time plus the work they still need. A job of three passages passes one
    of a thousand that came before it, but a thousand that have waited for as long as they take are passed by nobody;
    equal jobs are finished one after the other. If they took turns, all would end together at the end of their time,
    and under overload those that just miss it would have cost as much as the others.
    """

    def __init__(self) -> None:
        self._clients: OrderedDict[str, list[Job]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Job]:
        """Every job, in no order."""
        for jobs in self._clients.values():
            yield from jobs

    def in_turn(self) -> list[Job]:
        """Every client's first job, then every client's second, and so on."""
        ordered = (sorted(jobs, key=_due) for jobs in self._clients.values())
        return [job for together in zip_longest(*ordered) for job in together if job is not None]

    def append(self, job: Job) -> None:
        """Queue a job."""
        self._clients.setdefault(job.client, []).append(job)
        self._size += 1

    def remove(self, job: Job) -> None:
        """Take a job out."""
        jobs = self._clients[job.client]
        jobs.remove(job)
        self._size -= 1
        if not jobs:
            del self._clients[job.client]

    def rotate(self) -> None:
        """The first client was served: it goes behind the others."""
        if self._clients:
            self._clients.move_to_end(next(iter(self._clients)))


def _due(job: Job) -> float:
    return (job.queued_at if job.asked_at is None else job.asked_at) + job.work
