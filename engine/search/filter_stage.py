"""A filter as a model of the device thread: its work waits, is paid for and is dropped like all other work.

A request's filter is worked out in the turn of its client, some conditions at a time, so that nobody waits for more
than a slice of it, and a request that is cancelled has no slice more.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..collection import Collection
from ..collection.filters import Filter
from ..errors import InferenceError
from ..recall import RowMask
from ..scheduling.cost_model import CostModel
from ..scheduling.job import Job
from ..text.tokens import TokenBatch, pack

# Of 100,000 passages a condition takes .1 to .3 ms, and 7 ms where it has a thousand values.
CONDITION_SECONDS = 3e-4
# At most 2.5 ms of the device thread at 100,000 passages, or what its values take; then it is another client's turn.
CONDITIONS_AT_ONCE = 8


class FilterStage:
    """One request's filter (see `job.Model`): a sequence is a condition, and one more puts together what is left."""

    def __init__(self, collection: Collection, filters: Filter) -> None:
        self._filters = filters
        self._known = collection.filtered.known
        self._steps = collection.filtered.steps(filters)
        self.cost = CostModel(call=0.0, token=CONDITION_SECONDS, square=0.0, tokens=CONDITIONS_AT_ONCE)

    def run(self, batch: TokenBatch) -> Sequence[RowMask | bool | InferenceError]:
        """The next conditions, as many as `batch` has sequences; nothing more where another request was quicker."""
        if (known := self._known(self._filters)) is not None:
            return [known] * len(batch)
        return [self._step() for _ in range(len(batch))]

    def _step(self) -> RowMask | bool | InferenceError:
        try:
            next(self._steps)
            return True
        except StopIteration as end:
            rows: RowMask = end.value
            return rows
        except Exception as error:  # told here: a micro-batch that raises is tried again, and these steps go on once
            failed = InferenceError(f"the filter cannot be worked out: {error}")
            failed.__cause__ = error
            return failed


def filter_job(collection: Collection, filters: Filter, client: str) -> Job:
    """The job whose last result is RowMask, the passages that `filters` leaves."""
    sequences = pack([[number] for number in range(filters.conditions + 1)])
    return Job(FilterStage(collection, filters), sequences, client=client)
