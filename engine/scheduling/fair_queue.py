"""Who is served next: clients take turns; of one client's jobs, the one that has waited longest for what it asks.

A client's jobs stand in the order of arrival time plus the work they still need. A job of three passages passes one of
a thousand that came before it, but a thousand that have waited for as long as they take are passed by nobody; equal
jobs are finished one after the other. If they took turns, all would end together at the end of their time, and
under overload those that just miss it would have cost as much as the others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import zip_longest

from .job import Job


class FairQueue:
    """Waiting jobs. A client with a hundred of them has the same share of the device as a client with one."""

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
