"""Sequences that wait more than once: scored once, and every request that has them is served.

A lone request costs nothing here: sequences are compared only while two jobs wait, 1 us for each.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from .job import Job

Key = tuple[int, bytes, bytes]
Owner = tuple[Job, int]


class Duplicates:
    """Which waiting sequences are the same, for the same model. Belongs to whoever holds the queue's lock."""

    def __init__(self) -> None:
        self._owners: dict[Key, list[Owner]] = defaultdict(list)
        self._keys: dict[Job, list[Key]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, job: Job) -> None:
        """Compare a job's sequences with those of the jobs here; it takes the results that they have already."""
        job.compared = True
        self._keys[job] = keys = _keys(job)
        for row, key in enumerate(keys):
            owners = self._owners[key]
            for other, place in owners:
                if other.results[place] is not None:
                    job.store([row], [other.results[place]])
                    break
            owners.append((job, row))

    def discard(self, job: Job) -> None:
        """Forget a job that is done."""
        for key in dict.fromkeys(self._keys.pop(job, ())):
            left = [owner for owner in self._owners[key] if owner[0] is not job]
            if left:
                self._owners[key] = left
            else:
                del self._owners[key]

    def of(self, job: Job, row: int) -> list[Owner]:
        """Every other sequence here that is the same as a job's sequence `row`."""
        keys = self._keys.get(job)
        if keys is None:
            return []
        return [owner for owner in self._owners[keys[row]] if owner != (job, row)]


def _keys(job: Job) -> list[Key]:
    batch, model = job.batch, id(job.model)
    ids, segments = batch.ids.tobytes(), b"" if batch.segments is None else batch.segments.tobytes()
    width, narrow = batch.ids.itemsize, 0 if batch.segments is None else batch.segments.itemsize
    bounds = batch.cu_seqlens.tolist()
    return [
        (model, ids[start * width : stop * width], segments[start * narrow : stop * narrow])
        for start, stop in pairwise(bounds)
    ]
