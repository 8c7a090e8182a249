"""Who is served next: clients take turns, and so do the jobs of one client among themselves."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .batcher import Job


class Turns:
    """Waiting jobs. A client with a hundred of them has the same share of the device as a client with one."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, deque[Job]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Job]:
        """Every client's first job, then every client's second, and so on."""
        for together in zip_longest(*self._clients.values()):
            yield from (job for job in together if job is not None)

    def append(self, job: Job) -> None:
        """Queue a job behind its client's others."""
        self._clients.setdefault(job.client, deque()).append(job)
        self._size += 1

    def remove(self, job: Job) -> None:
        """Take a job out."""
        jobs = self._clients[job.client]
        jobs.remove(job)
        self._size -= 1
        if not jobs:
            del self._clients[job.client]

    def rotate(self) -> None:
        """The first job was served: its client goes behind the others, and it behind its client's other jobs."""
        if self._clients:
            client, jobs = next(iter(self._clients.items()))
            jobs.rotate(-1)
            self._clients.move_to_end(client)
