"""The next micro-batch: formed of jobs that wait, run through its model, its results handed to everybody who waits.

What fails belongs to its request alone: a micro-batch that fails is halved until the bad sequence is found.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import DeviceError, InferenceError, OutOfMemory
from ..text.tokens import TokenBatch, concatenate
from .dedup import Duplicates, Owner
from .job import Interruptible, Job, Model, Stop

log = logging.getLogger(__name__)
# A micro-batch that can be interrupted ends by then, however many tokens it has: a watchdog takes one that runs for
# long for stuck, and by reckoning 4,096 tokens of a model of 560 M parameters take a quarter of a minute on two cores.
LONGEST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Share:
    """The sequences that one job has in a micro-batch; `others`: by row, the same sequences of other jobs."""

    job: Job
    rows: list[int]
    others: Mapping[int, list[Owner]] = field(default_factory=dict)

    def owners(self, row: int) -> list[Owner]:
        """Everybody who waits for this row."""
        return [(self.job, row), *self.others.get(row, ())]


def form(queue: Sequence[Job], now: float, *, alone: bool = False) -> list[Share]:
    """Take the next sequences of the first job, then of the next jobs on the same model, up to the token budget.

    The cost of a micro-batch is its longest sequence times their number: what a padded runtime computes. A round of
    sequences that are computed at once is filled, since a core would wait otherwise: three on two cores took a sixth
    of a query's reranking. A micro-batch is also to end before the earliest deadline among its jobs. One of a job that
    is `alone` may be larger where it can be interrupted (see `CostModel.most`).
    """
    model = queue[0].model
    budget = model.cost.most if alone and isinstance(model, Interruptible) else model.cost.tokens
    shares: list[Share] = []
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
            full = wider * (count + 1) > budget and count % model.cost.lanes == 0
            if count and (full or end > soonest):
                break
            limit = soonest
            longest, count, job.cursor = wider, count + 1, job.cursor + 1
            rows.append(row)
            job.skip_answered()
        if rows:
            shares.append(Share(job, rows))
        if job.waiting:
            break
    return shares


def scored_once(shares: Sequence[Share], duplicates: Duplicates) -> list[Share]:
    """The micro-batch without what occurs in it twice, and with every other waiting owner of its sequences."""
    taken: set[Owner] = set()
    single: list[Share] = []
    for share in shares:
        rows = [row for row in share.rows if (share.job, row) not in taken]
        others: dict[int, list[Owner]] = {}
        kept: list[int] = []
        for row in rows:
            if (share.job, row) in taken:  # the same sequence twice in one request
                continue
            kept.append(row)
            same = [owner for owner in duplicates.of(share.job, row) if owner[0].results[owner[1]] is None]
            if same:
                others[row] = same
                taken.update(same)
        if kept:
            single.append(Share(share.job, kept, others))
    return single


def latest_end(shares: Sequence[Share]) -> float:
    """`time.monotonic` seconds after which no further sequence is begun: by the first deadline or LONGEST_SECONDS."""
    deadlines = [share.job.deadline for share in shares if share.job.deadline is not None]
    return min([*deadlines, time.monotonic() + LONGEST_SECONDS]) - longest_seconds(shares)


def longest_seconds(shares: Sequence[Share]) -> float:
    """Predicted seconds of the longest sequence of a micro-batch."""
    longest = max(share.job.lengths[row] for share in shares for row in share.rows)
    return shares[0].job.model.cost.seconds(1, longest)


def never() -> bool:
    """A `Stop` that lets a batch run to its end."""
    return False


def run_isolated(shares: Sequence[Share], stop: Stop = never) -> tuple[int, int]:
    """Run a micro-batch; when it fails, halve it until the bad sequence is found, and fail that one's job only.

    Sequences that were not begun when `stop` ended it are put back. Returns how many were run, and their tokens.
    """
    now = time.monotonic()
    model = shares[0].job.model
    batch = concatenate([share.job.batch.select(share.rows) for share in shares])
    try:
        results = _run(model, batch, stop)
    except DeviceError:
        raise  # the device is gone, and halving would only ask it again
    except Exception as error:  # whatever a runtime raises belongs to the requests of this batch, never to the thread
        if isinstance(error, OutOfMemory):
            tried = min(model.cost.tokens, int(batch.lengths.max()) * len(batch))
            model.cost.most = model.cost.tokens = max(1, tried // 2)
        return _halve(shares, len(batch), error, stop)
    lengths = batch.lengths[: len(results)]
    model.cost.observe(lengths, time.monotonic() - now)
    rows = [(share, row) for share in shares for row in share.rows]
    for (share, row), result in zip(rows, results, strict=False):
        for job, place in share.owners(row):
            job.started_at = now if job.started_at is None else job.started_at
            job.store([place], [result])
    for share, row in rows[len(results) :]:
        for job, place in share.owners(row):
            job.put_back(place)
    return len(results), int(lengths.sum())


def _run(model: Model, batch: TokenBatch, stop: Stop) -> Sequence[Any]:
    """The results of the first sequences of a batch: of all, unless the model can be stopped and was."""
    if isinstance(model, Interruptible):
        results = model.run_until(batch, stop)
        whole = not (results and stop())
    else:
        results, whole = model.run(batch), True
    if len(results) > len(batch) or (whole and len(results) < len(batch)):
        raise InferenceError(f"the model gave {len(results)} results for {len(batch)} sequences")
    return results


def _halve(shares: Sequence[Share], count: int, error: Exception, stop: Stop) -> tuple[int, int]:
    """Run both halves of a micro-batch of `count` that failed; one sequence alone fails its request."""
    if count == 1:
        for job, _ in shares[0].owners(shares[0].rows[0]):
            job.fail(error if isinstance(error, OutOfMemory) else _blame(error))
        return 0, 0
    log.warning("a micro-batch of %d sequences failed (%s); halving it", count, error)
    first, second = (run_isolated(half, stop) for half in _halves(shares))
    return first[0] + second[0], first[1] + second[1]


def _blame(error: Exception) -> InferenceError:
    failure = InferenceError(f"the model failed on one sequence of this request: {error}")
    failure.__cause__ = error
    return failure


def _halves(shares: Sequence[Share]) -> Iterator[list[Share]]:
    """Two micro-batches with half of the sequences each."""
    rows = [(place, row) for place, share in enumerate(shares) for row in share.rows]
    middle = len(rows) // 2
    for part in (rows[:middle], rows[middle:]):
        places = dict.fromkeys(place for place, _ in part)
        yield [
            Share(shares[place].job, [row for owner, row in part if owner == place], shares[place].others)
            for place in places
        ]
