"""Requests of many callers → micro-batches by token budget, on the one thread that owns the device.

No timer and no sleep: the thread takes what is queued as soon as the device is free, so a lone request starts at once
and batches grow by themselves under load. A request is one job with one future, however many sequences it has; a
cursor remembers how far it was served. Clients take turns (see `FairQueue`): three passages do not wait for a
thousand, nor one caller for another's hundred requests. A sequence that waits more than once is scored once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from ..errors import DeviceError, EngineClosed, Overloaded, TandemError
from .dedup import Duplicates
from .job import FairQueue, Job, Served, Stop
from .micro_batch import Share, form, latest_end, longest_seconds, never, run_isolated, scored_once

log = logging.getLogger(__name__)
UNSERVED = "the engine was closed before this request was served"
# A machine that others use too takes twice the predicted time in some runs.
PATIENCE = 2.0
T = TypeVar("T")


class Batcher:
    """The device thread and its two queues. `submit` from any thread; `close` ends it and fails what waits."""

    def __init__(self, queue_tokens: int) -> None:
        """`queue_tokens`: tokens that may wait before `submit` refuses."""
        self._limit = queue_tokens
        self._waiting_tokens = 0
        self._urgent = FairQueue()
        self._normal = FairQueue()
        self._duplicates = Duplicates()
        self._condition = threading.Condition()
        self._closed = False
        self._alone = False
        """Whether the micro-batch that was formed last is of the only job there was."""
        self._refusal: TandemError = EngineClosed("the engine is closed; open it again to search")
        self.on_batch: Callable[[int, int], None] | None = None
        """Told sequences and tokens of each micro-batch after it ran, on the device thread."""
        self._due: float | None = None
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._thread = threading.Thread(target=self._serve, name="tandem-device", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], T]) -> T:
        """What `function` returns or raises, run on the device thread between two micro-batches, before any other.

        Raises EngineClosed when the batcher is closed first; a DeviceError ends it, as it does in a micro-batch.
        """
        future: Future[T] = Future()
        with self._condition:
            if self._closed:
                raise self._refusal
            self._calls.append((function, future))
            self._condition.notify()
        return future.result()

    def submit(self, job: Job) -> Future[Served]:
        """Queue a job; its future gives Served. Raises Overloaded, EngineClosed, or DeviceError once a GPU broke.

        What a request goes on with is not refused: its first job was paid for.
        """
        tokens = len(job.batch.ids)
        with self._condition:
            if self._closed:
                raise self._refusal
            begun = job.asked_at is not None
            if not begun and self._waiting_tokens and self._waiting_tokens + tokens > self._limit:
                raise Overloaded(
                    f"{self._waiting_tokens} tokens wait already and this request has {tokens}; the limit is "
                    f"{self._limit}: try again later"
                )
            self._waiting_tokens += tokens
            (self._urgent if job.urgent else self._normal).append(job)
            self._condition.notify()
        return job.future

    async def run(self, job: Job) -> Served:
        """`submit`, and what became of it: for a request that is driven (see `request_steps`)."""
        self.submit(job)
        return await job

    def time_left(self, deadline: float | None) -> float | None:
        """Seconds of the device that a request may still have until `deadline`; None without one.

        Jobs take turns, so each has its share.
        """
        return None if deadline is None else (deadline - time.monotonic()) / (1 + self.waiting_jobs)

    @property
    def broken(self) -> DeviceError | None:
        """Why nothing will run any more: the device stopped working. None while it works."""
        return self._refusal if isinstance(self._refusal, DeviceError) else None

    @property
    def overdue(self) -> float:
        """Seconds that the micro-batch that runs now has taken beyond what its longest sequence may take, which is
        PATIENCE times the predicted time; 0 between two. A watchdog reads it: one sequence cannot be interrupted, and
        8,192 tokens may rightly take half a minute.
        """
        due = self._due
        return 0.0 if due is None else max(0.0, time.monotonic() - due)

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
        while (shares := self._next()) is not None:
            self._run_calls()
            if not shares:
                continue
            self._due = time.monotonic() + PATIENCE * longest_seconds(shares)
            sequences, tokens = run_isolated(shares, self._interrupts(shares))
            self._due = None
            if self.on_batch is not None:
                self.on_batch(sequences, tokens)
        self._fail_all(EngineClosed(UNSERVED))

    def _run_calls(self) -> None:
        while self._calls:
            function, future = self._calls.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
                if isinstance(error, DeviceError):
                    raise

    def _fail_all(self, error: Exception) -> None:
        with self._condition:
            self._closed = True
            for job in [*self._urgent, *self._normal]:
                job.fail(error)
            for _, future in self._calls:
                future.set_exception(error)
            self._calls.clear()

    def _next(self) -> list[Share] | None:
        """Answer what is done, wait for work, form the next micro-batch; empty where a call waits, None when the
        batcher was closed."""
        with self._condition:
            while True:
                for queue in (self._urgent, self._normal):
                    self._compare(queue)
                    self._drop_done(queue)
                if self._closed:
                    return None
                if self._calls:
                    return []
                queue = self._urgent or self._normal
                if queue:
                    self._alone = len(self._urgent) + len(self._normal) == 1
                    shares = form(queue.in_turn(), time.monotonic(), alone=self._alone)
                    queue.rotate()
                    compared = any(share.job.compared for share in shares)
                    return scored_once(shares, self._duplicates) if compared else shares
                self._condition.wait()

    def _interrupts(self, shares: Sequence[Share]) -> Stop:
        """What ends a micro-batch early: an urgent job, a deadline, its length; where one job is alone, another one or
        its end."""
        job = shares[0].job
        if job.urgent:
            return never
        latest = latest_end(shares)
        alone = self._alone

        def stop() -> bool:
            if self._closed or (alone and (job.future.done() or len(self._normal) > 1)):
                return True
            return bool(self._urgent) or time.monotonic() > latest

        return stop

    def _compare(self, queue: FairQueue) -> None:
        """With more than one job waiting, find out which of their sequences are the same."""
        for job in queue if len(queue) > 1 else ():
            if not job.compared:
                self._duplicates.add(job)

    def _drop_done(self, queue: FairQueue) -> None:
        """Before they cost anything: abandoned jobs, and jobs whose next micro-batch would end past their deadline."""
        now = time.monotonic()
        for job in list(queue):
            job.skip_answered()
            if job.future.done() or not job.waiting or _late(job, now):
                queue.remove(job)
                if job.compared:
                    self._duplicates.discard(job)
                self._waiting_tokens -= len(job.batch.ids)
                job.finish()


def _late(job: Job, now: float) -> bool:
    if job.deadline is None:
        return False
    return now + job.model.cost.seconds(1, job.lengths[job.order[job.cursor]]) > job.deadline
