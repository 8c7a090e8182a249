"""A micro-batch through its model: results to everybody who waits for them, failures to their request alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import DeviceError, InferenceError, OutOfMemory
from ..text.tokens import TokenBatch, concatenate
from .job import Interruptible, Model, Stop
from .scheduler import Share

log = logging.getLogger(__name__)


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
            Share(shares[place].job, [row for owner, row in part if owner == place], shares[place].twins)
            for place in places
        ]
