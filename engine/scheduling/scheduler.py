"""Jobs that wait → the next micro-batch: whose sequences, how many, and what occurs twice once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .dedup import Duplicates, Owner
from .job import Interruptible, Job


@dataclass(frozen=True, slots=True)
class Share:
    """The sequences that one job has in a micro-batch, and by row the same sequences of other jobs."""

    job: Job
    rows: list[int]
    twins: Mapping[int, list[Owner]] = field(default_factory=dict)

    def owners(self, row: int) -> list[Owner]:
        """Everybody who waits for this row."""
        return [(self.job, row), *self.twins.get(row, ())]


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


def with_twins(shares: Sequence[Share], twins: Duplicates) -> list[Share]:
    """The micro-batch without what occurs in it twice, and with every other waiting owner of its sequences."""
    if not len(twins):
        return list(shares)
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
            same = [owner for owner in twins.of(share.job, row) if owner[0].results[owner[1]] is None]
            if same:
                others[row] = same
                taken.update(same)
        if kept:
            single.append(Share(share.job, kept, others))
    return single
