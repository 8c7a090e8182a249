"""A request that is driven: its own steps on a pool, its jobs on the device, ended by whoever leaves first."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tandem.engine import EngineClosed, InputError
from tandem.engine.scheduling.cost_model import CostModel
from tandem.engine.scheduling.job import Job, Served
from tandem.engine.scheduling.request_steps import Request, drive, drive_async, drive_together
from tandem.engine.text.tokens import TokenBatch, pack


@pytest.fixture
def steps() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


class Waiting:
    """Awaits a future as `Job` does."""

    def __init__(self, future: Future[Served]) -> None:
        self._future = future

    def __await__(self) -> Generator[Future[Served], None, Served]:
        yield self._future
        return self._future.result()


async def told(stages: list[Future[Served]], seen: list[object]) -> str:
    for stage in stages:
        seen.append(await Waiting(stage))
    return "the end"


def served(value: object) -> Served:
    return Served([value], 0.0, 0.0)


def done(value: object) -> Future[Served]:
    future: Future[Served] = Future()
    future.set_result(served(value))
    return future


async def until_waiting(request: Request[str], stage: Future[Served], steps: ThreadPoolExecutor) -> asyncio.Task[str]:
    """The task of a request that waits for `stage`."""
    task = asyncio.create_task(drive_async(request, steps))
    while not stage._done_callbacks:
        await asyncio.sleep(0.001)
    return task


def test_awaiting_gives_what_blocking_gives(steps: ThreadPoolExecutor):
    by_blocking: list[object] = []
    by_awaiting: list[object] = []
    assert drive(told([done(1), done(2)], by_blocking)) == "the end"
    assert asyncio.run(drive_async(told([done(1), done(2)], by_awaiting), steps)) == "the end"
    assert [each.results for each in by_awaiting] == [each.results for each in by_blocking] == [[1], [2]]  # type: ignore[attr-defined]


def test_an_error_of_a_step_or_of_the_device_is_the_callers(steps: ThreadPoolExecutor):
    async def wrong() -> str:
        await Waiting(done(1))
        raise InputError("wrong")

    with pytest.raises(InputError, match="wrong"):
        asyncio.run(drive_async(wrong(), steps))
    broken: Future[Served] = Future()
    broken.set_exception(EngineClosed("gone"))
    with pytest.raises(EngineClosed, match="gone"):
        asyncio.run(drive_async(told([broken], []), steps))


def test_leaving_drops_the_stage_that_is_waited_for(steps: ThreadPoolExecutor):
    stage: Future[Served] = Future()

    async def leave() -> None:
        task = await until_waiting(told([stage], []), stage, steps)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert stage.cancelled()


def test_leaving_drops_the_stage_that_a_step_under_way_submits(steps: ThreadPoolExecutor):
    begun, left = threading.Event(), threading.Event()
    stage: Future[Served] = Future()

    async def slow() -> str:
        begun.set()
        left.wait(10)
        await Waiting(stage)
        return "the end"

    async def leave() -> None:
        task = asyncio.create_task(drive_async(slow(), steps))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left.set()

    asyncio.run(leave())
    steps.shutdown(wait=True)
    assert stage.cancelled()


def test_nobody_waits_for_ever_when_the_engine_closes(steps: ThreadPoolExecutor):
    stage: Future[Served] = Future()
    hold = threading.Event()

    async def close_between_steps() -> None:
        waiting = await until_waiting(told([stage], []), stage, steps)
        steps.submit(hold.wait, 60)  # the pool's only thread: the next step waits behind it
        stage.set_result(served(1))
        queued = asyncio.create_task(drive_async(told([], []), steps))
        await asyncio.sleep(0)
        steps.shutdown(wait=False, cancel_futures=True)
        hold.set()
        for task in (waiting, queued):
            with pytest.raises(EngineClosed):
                await asyncio.wait_for(task, 10)
        with pytest.raises(EngineClosed):
            await drive_async(told([], []), steps)

    asyncio.run(close_between_steps())


def test_requests_are_driven_together_job_by_job():
    begun: list[str] = []

    async def request(name: str, jobs: int) -> str:
        for job in range(jobs):
            begun.append(f"{name}{job}")
            await Waiting(done(job))
        return name

    assert drive_together([request("a", 2), request("b", 1), request("c", 0)]) == ["a", "b", "c"]
    assert begun == ["a0", "b0", "a1"]


def test_a_request_that_is_dropped_drops_the_job_it_waits_for():
    class Model:
        cost = CostModel(call=0.0, token=0.0, square=0.0, tokens=512)

        def run(self, batch: TokenBatch) -> list[int]:
            return [0] * len(batch)

    waiting = Job(Model(), pack([[1]]))

    async def waits() -> Served:
        return await waiting

    async def fails() -> Served:
        await Waiting(done(1))
        raise InputError("wrong")

    with pytest.raises(InputError, match="wrong"):
        drive_together([fails(), waits()])
    assert waiting.future.cancelled()


def test_the_first_error_of_requests_together_ends_the_others():
    ended: list[str] = []

    async def waits(name: str) -> str:
        try:
            await Waiting(done(1))
            await Waiting(done(2))
        finally:
            ended.append(name)
        return name

    async def fails() -> str:
        await Waiting(done(1))
        raise InputError("wrong")

    with pytest.raises(InputError, match="wrong"):
        drive_together([fails(), waits("a"), waits("b")])
    assert ended == ["a", "b"]
