"""Requests of many callers → micro-batches by token budget, on the one thread that owns the device.

No timer and no sleep: the thread takes what is queued as soon as the device is free, so a lone request starts at once
and batches grow by themselves under load. A request is one job with one future, however many sequences it has; a
cursor remembers how far it was served. Clients take turns (see `turns`): three passages do not wait for a thousand,
nor one caller for another's hundred requests. A sequence that waits more than once is scored once.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .budget import CostModel
from .errors import DeviceError, EngineClosed, InferenceError, OutOfMemory, Overloaded, TandemError
from .tokens import TokenBatch, concatenate
from .turns import Turns
from .twins import Owner, Twins

log = logging.getLogger(__name__)


class Model(Protocol):
    """What a job runs on: one result for each sequence of a batch; an exception in a sequence's place fails its job."""

    cost: CostModel

    def run(self, batch: TokenBatch) -> Sequence[Any]: ...


@dataclass(frozen=True, slots=True)
class Served:
    """What became of a job.

    results: the model's result for each sequence, None where the deadline came first
    queued:  seconds waited before the first micro-batch; `running`: seconds from there to the end
    """

    results: list[Any]
    queued: float
    running: float


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

    @property
    def waiting(self) -> int:
        """Sequences not yet run."""
        return len(self.order) - self.cursor

    @property
    def work(self) -> float:
        """Seconds of what is not yet run."""
        return self.seconds * self.waiting / max(1, len(self.order))

    def skip_answered(self) -> None:
        """Move the cursor past sequences whose results came from their twins."""
        while self.waiting and self.results[self.order[self.cursor]] is not None:
            self.cursor += 1

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


@dataclass(frozen=True, slots=True)
class _Share:
    """The sequences that one job has in a micro-batch, and by row the same sequences of other jobs."""

    job: Job
    rows: list[int]
    twins: Mapping[int, list[Owner]] = field(default_factory=dict)

    def owners(self, row: int) -> list[Owner]:
        """Everybody who waits for this row."""
        return [(self.job, row), *self.twins.get(row, ())]


class Batcher:
    """The device thread and its two queues. `submit` from any thread; `close` ends it and fails what waits."""

    def __init__(self, queue_tokens: int) -> None:
        """`queue_tokens`: tokens that may wait before `submit` refuses."""
        self._limit = queue_tokens
        self._waiting_tokens = 0
        self._urgent = Turns()
        self._normal = Turns()
        self._twins = Twins()
        self._condition = threading.Condition()
        self._closed = False
        self._refusal: TandemError = EngineClosed("the engine is closed; open it again to search")
        self.on_batch: Callable[[int, int], None] | None = None
        """Told sequences and tokens of each micro-batch before it runs, on the device thread."""
        self.busy_since: float | None = None
        """When the micro-batch that runs now began (`time.monotonic`), None between two: a watchdog reads it."""
        self._thread = threading.Thread(target=self._serve, name="tandem-device", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Future[Served]:
        """Queue a job; its future gives Served. Raises Overloaded, EngineClosed, or DeviceError once a GPU broke."""
        tokens = len(job.batch.ids)
        with self._condition:
            if self._closed:
                raise self._refusal
            if self._waiting_tokens and self._waiting_tokens + tokens > self._limit:
                raise Overloaded(
                    f"{self._waiting_tokens} tokens wait already and this request has {tokens}; the limit is "
                    f"{self._limit}: try again later"
                )
            self._waiting_tokens += tokens
            (self._urgent if job.urgent else self._normal).append(job)
            self._condition.notify()
        return job.future

    @property
    def broken(self) -> DeviceError | None:
        """Why nothing will run any more: the device stopped working. None while it works."""
        return self._refusal if isinstance(self._refusal, DeviceError) else None

    @property
    def waiting_tokens(self) -> int:
        """Tokens of the jobs that are not done."""
        return self._waiting_tokens

    @property
    def waiting_jobs(self) -> int:
        """Jobs that are not done."""
        return len(self._urgent) + len(self._normal)

    def close(self) -> None:
        """Finish the micro-batch in flight, fail every waiting job with EngineClosed, end the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join()

    def _serve(self) -> None:
        try:
            self._serve_until_closed()
        except DeviceError as error:
            log.error("%s", error)
            self._refusal = error
            self._fail_all(error)
        except BaseException as error:
            # Nothing of a request reaches here; if it is a fault of ours, nobody may wait for ever.
            self._fail_all(EngineClosed(f"the device thread ended on an internal error: {error!r}"))
            raise

    def _serve_until_closed(self) -> None:
        while shares := self._next():
            if self.on_batch is not None:
                tokens = sum(share.job.lengths[row] for share in shares for row in share.rows)
                self.on_batch(sum(len(share.rows) for share in shares), tokens)
            self.busy_since = time.monotonic()
            run_isolated(shares)
            self.busy_since = None
        self._fail_all(EngineClosed("the engine was closed before this request was served"))

    def _fail_all(self, error: Exception) -> None:
        with self._condition:
            self._closed = True
            for job in [*self._urgent, *self._normal]:
                job.fail(error)

    def _next(self) -> list[_Share]:
        """Answer what is done, wait for work, form the next micro-batch; empty when the batcher was closed."""
        with self._condition:
            while True:
                for queue in (self._urgent, self._normal):
                    self._compare(queue)
                    self._drop_done(queue)
                if self._closed:
                    return []
                queue = self._urgent or self._normal
                if queue:
                    shares = form(queue.in_turn(), time.monotonic())
                    queue.rotate()
                    return with_twins(shares, self._twins)
                self._condition.wait()

    def _compare(self, queue: Turns) -> None:
        """With more than one job waiting, find out which of their sequences are the same."""
        for job in queue if len(queue) > 1 else ():
            self._twins.add(job)

    def _drop_done(self, queue: Turns) -> None:
        """Before they cost anything: abandoned jobs, and jobs whose next micro-batch would end past their deadline."""
        now = time.monotonic()
        for job in list(queue):
            job.skip_answered()
            if job.future.done() or not job.waiting or _late(job, now):
                queue.remove(job)
                self._twins.discard(job)
                self._waiting_tokens -= len(job.batch.ids)
                job.finish()


def _late(job: Job, now: float) -> bool:
    if job.deadline is None:
        return False
    return now + job.model.cost.seconds(1, job.lengths[job.order[job.cursor]]) > job.deadline


def form(queue: Sequence[Job], now: float) -> list[_Share]:
    """Take the next sequences of the first job, then of the next jobs on the same model, up to the token budget.

    The cost of a micro-batch is its longest sequence times their number: what a padded runtime computes. A round of
    sequences that are computed at once is filled, since a core would wait otherwise: three on two cores took a sixth
    of a query's reranking. A micro-batch is also to end before the earliest deadline among its jobs.
    """
    model = queue[0].model
    shares: list[_Share] = []
    count, longest = 0, 0
    limit = math.inf
    for job in queue:
        if job.model is not model:
            continue
        rows: list[int] = []
        while job.waiting:
            row = job.order[job.cursor]
            wider = max(longest, job.lengths[row])
            end = now + model.cost.seconds(count + 1, wider)
            soonest = limit if job.deadline is None else min(limit, job.deadline)
            full = wider * (count + 1) > model.cost.tokens and count % model.cost.lanes == 0
            if count and (full or end > soonest):
                break
            limit = soonest
            longest, count, job.cursor = wider, count + 1, job.cursor + 1
            rows.append(row)
            job.skip_answered()
        if rows:
            shares.append(_Share(job, rows))
        if job.waiting:
            break
    return shares


def with_twins(shares: Sequence[_Share], twins: Twins) -> list[_Share]:
    """The micro-batch without what occurs in it twice, and with every other waiting owner of its sequences."""
    if not len(twins):
        return list(shares)
    taken: set[Owner] = set()
    single: list[_Share] = []
    for share in shares:
        rows = [row for row in share.rows if (share.job, row) not in taken]
        others: dict[int, list[Owner]] = {}
        kept: list[int] = []
        for row in rows:
            if (share.job, row) in taken:  # the same sequence twice in one request
                continue
            kept.append(row)
            same = [owner for owner in twins.of(share.job, row) if owner[0].results[owner[1]] is None]
            if same:
                others[row] = same
                taken.update(same)
        if kept:
            single.append(_Share(share.job, kept, others))
    return single


def run_isolated(shares: Sequence[_Share]) -> None:
    """Run a micro-batch; when it fails, halve it until the bad sequence is found, and fail that one's job only."""
    now = time.monotonic()
    for job, _ in (owner for share in shares for row in share.rows for owner in share.owners(row)):
        if job.started_at is None:
            job.started_at = now
    model = shares[0].job.model
    batch = concatenate([share.job.batch.select(share.rows) for share in shares])
    try:
        results = model.run(batch)
        if len(results) != len(batch):
            raise InferenceError(f"the model gave {len(results)} results for {len(batch)} sequences")
    except DeviceError:
        raise  # the device is gone, and halving would only ask it again
    except Exception as error:  # whatever a runtime raises belongs to the requests of this batch, never to the thread
        if isinstance(error, OutOfMemory):
            model.cost.tokens = max(1, min(model.cost.tokens, int(batch.lengths.max()) * len(batch)) // 2)
        _halve(shares, len(batch), error)
        return
    model.cost.observe(len(batch), int(batch.lengths.max()), time.monotonic() - now)
    rows = [(share, row) for share in shares for row in share.rows]
    for (share, row), result in zip(rows, results, strict=True):
        for job, place in share.owners(row):
            job.store([place], [result])


def _halve(shares: Sequence[_Share], count: int, error: Exception) -> None:
    """Run both halves of a micro-batch of `count` that failed; one sequence alone fails its request."""
    if count == 1:
        for job, _ in shares[0].owners(shares[0].rows[0]):
            job.fail(error if isinstance(error, OutOfMemory) else _blame(error))
        return
    log.warning("a micro-batch of %d sequences failed (%s); halving it", count, error)
    for half in _halves(shares):
        run_isolated(half)


def _blame(error: Exception) -> InferenceError:
    failure = InferenceError(f"the model failed on one sequence of this request: {error}")
    failure.__cause__ = error
    return failure


def _halves(shares: Sequence[_Share]) -> Iterator[list[_Share]]:
    """Two micro-batches with half of the sequences each."""
    rows = [(place, row) for place, share in enumerate(shares) for row in share.rows]
    middle = len(rows) // 2
    for part in (rows[:middle], rows[middle:]):
        places = dict.fromkeys(place for place, _ in part)
        yield [
            _Share(shares[place].job, [row for owner, row in part if owner == place], shares[place].twins)
            for place in places
        ]
