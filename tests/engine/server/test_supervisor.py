"""Who answers, with backends that only say who they are: replaced, retried, leased, swapped."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the [serve] extra is not installed")

from tandem.engine.collection import Pointer
from tandem.engine.errors import CollectionError, DeviceError, EngineError
from tandem.engine.recall.gpu_planning import GpuPlan
from tandem.engine.search.gpu_memory import Item, MemoryPlan
from tandem.engine.server import poison_requests, rpc_calls, seat
from tandem.engine.server import supervisor as hosting
from tandem.engine.server import swaps as swapping
from tandem.engine.server.backend import WorkerLost
from tandem.engine.server.engines import Wanted
from tandem.engine.server.errors import Failure
from tandem.engine.server.metrics import Metrics
from tandem.engine.server.model_info import Load
from tandem.engine.server.rpc_calls import Decode, Refresh
from tandem.engine.server.supervisor import Host
from tandem.engine.server.swaps import Swaps

CALL = Decode(client="", rows=[[1]])


@dataclass
class Says:
    """Enough of `Facts` for a host."""

    version: str
    name: str = "notes"
    device: str = "cpu"
    passages: int = 1
    searched: bool = True


@dataclass(eq=False)
class Fake:
    """Answers with its name; `fails` of its first calls end it."""

    name: str
    fails: int = 0
    closed: bool = False
    load: Load = field(default_factory=Load)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = "killed"
    version: str = ""

    @property
    def facts(self) -> dict[str, Says]:
        return {"notes": Says(self.version or self.name)}

    async def run(self, call: Any, name: str) -> str:
        await asyncio.sleep(0)
        if isinstance(call, Refresh):
            raise CollectionError("its models are others: open it anew")
        if self.fails:
            self.fails -= 1
            self.ended.set()
            raise WorkerLost("killed")
        return self.name

    async def close(self) -> None:
        self.closed = True
        self.ended.set()


class Row:
    """An opener that gives one backend or error after another, and remembers what it was asked for."""

    def __init__(self, *items: Fake | Exception) -> None:
        self.items = list(items)
        self.asked: list[Sequence[Wanted]] = []

    async def __call__(self, worker: int, collections: Sequence[Wanted]) -> Any:
        self.asked.append(collections)
        item = self.items.pop(0)
        if isinstance(item, Exception):
            raise item
        return item


def run(
    work: Callable[[Host, Swaps], Coroutine[Any, Any, None]],
    row: Row,
    monkeypatch: pytest.MonkeyPatch,
    back_off: tuple[float, ...] = (0.0,),
    workers: int = 1,
) -> None:
    for name in ("BACK_OFF", "FAILED"):
        monkeypatch.setattr(seat, name, back_off)

    async def main() -> None:
        host = Host({"notes": Path("nowhere")}, row, Metrics(), close_after=0.2, workers=workers)
        swaps = Swaps(host)
        try:
            await swaps.open()
            await work(host, swaps)
        finally:
            await host.close()

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def test_a_call_is_made_once_more_of_the_next_worker(monkeypatch: pytest.MonkeyPatch):
    async def work(host: Host, swaps: Swaps) -> None:
        with host.lease() as lease:
            assert await lease.run(CALL, 10) == "second"
            assert lease.facts.version == "second"
        assert not host._leases
        assert host.restarts == 1

    run(work, Row(Fake("first", fails=1), Fake("second")), monkeypatch)


def test_twice_lost_it_is_given_up(monkeypatch: pytest.MonkeyPatch):
    async def work(host: Host, swaps: Swaps) -> None:
        with pytest.raises(Failure, match="twice") as caught, host.lease() as lease:
            await lease.run(CALL, 10)
        assert caught.value.kind == "unavailable"
        await until(lambda: host.current is not None and host.current.facts["notes"].version == "third")

    run(work, Row(Fake("first", fails=1), Fake("second", fails=1), Fake("third")), monkeypatch)


def test_what_ends_every_worker_is_found_out_and_refused(monkeypatch: pytest.MonkeyPatch):
    other = Decode(client="", rows=[[2]])
    row = Row(*(Fake(str(place), fails=1) for place in range(3)), Fake("last"))

    async def ask(host: Host, call: Decode) -> str:
        await until(lambda: host.current is not None and not host.current.ended.is_set())
        with host.lease() as lease:
            return await lease.run(call, 10)

    async def work(host: Host, swaps: Swaps) -> None:
        for client, kind in (("a", "unavailable"), ("b", "model"), ("c", "model")):  # whoever sends it
            with pytest.raises(Failure) as caught:
                await ask(host, Decode(client=client, rows=[[1]]))
            assert caught.value.kind == kind
        assert await ask(host, other) == "last"
        assert host.restarts == 3  # the last time it was not run

    run(work, row, monkeypatch)


def test_what_ends_workers_that_take_long_to_open_is_found_out_too(monkeypatch: pytest.MonkeyPatch):
    """Nobody waits for the next one, so it is never tried alone."""

    async def work(host: Host, swaps: Swaps) -> None:
        kinds = []
        for _ in range(5):
            await until(lambda: host.current is not None and not host.current.ended.is_set())
            host.seats[0].opening = 2 * hosting.PATIENCE
            with pytest.raises(Failure) as caught, host.lease() as lease:
                await lease.run(CALL, 10)
            kinds.append(caught.value.kind)
        assert kinds == ["unavailable"] * 3 + ["model"] * 2
        assert host.restarts == 4

    run(work, Row(*(Fake(str(place), fails=1) for place in range(4)), Fake("last")), monkeypatch)


def test_an_opener_that_fails_in_its_own_way_is_asked_again(monkeypatch: pytest.MonkeyPatch):
    row = Row(Fake("first"), OSError("too many open files"), Fake("second"))

    async def work(host: Host, swaps: Swaps) -> None:
        host.current.ended.set()
        await until(lambda: host.restarts == 1 and host.current is not None)
        assert host.current.facts["notes"].version == "second"

    run(work, row, monkeypatch)


def test_a_reload_that_nobody_waits_for_leaves_no_backend_open(monkeypatch: pytest.MonkeyPatch, tmp_path):
    first, second = Fake("first"), Fake("second")

    async def work(host: Host, swaps: Swaps) -> None:
        monkeypatch.setattr(swapping, "read_pointer", lambda path: Pointer("v2", "0"))
        host.catalogue.paths["notes"] = tmp_path
        asked = asyncio.ensure_future(swaps.reload())
        await asyncio.sleep(0)
        asked.cancel()
        await until(lambda: host.current is second and first.closed)

    run(work, Row(first, second), monkeypatch)


def test_an_answer_clears_a_request(monkeypatch: pytest.MonkeyPatch):
    """A worker that others ended under it, again and again, is not its fault."""
    fakes = [Fake(str(place), fails=place % 3 < 2) for place in range(9)]

    async def work(host: Host, swaps: Swaps) -> None:
        for place in range(3):
            await until(lambda: host.current is not None and not host.current.ended.is_set())
            with pytest.raises(Failure, match="twice"), host.lease() as lease:
                await lease.run(CALL, 10)
            await until(lambda: host.current is not None and not host.current.ended.is_set())
            with host.lease() as lease:
                assert await lease.run(CALL, 10) == str(3 * place + 2)
            host.current.ended.set()

    run(work, Row(*fakes, Fake("last")), monkeypatch)


def test_ready_again_soon_however_many_ended(monkeypatch: pytest.MonkeyPatch):
    slept: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    async def work(host: Host, swaps: Swaps) -> None:
        # The module's own view of asyncio: servers in other threads of this process sleep too.
        monkeypatch.setattr(seat, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": noted}))
        for _ in range(11):
            host.current.ended.set()
            while host.current is None or host.current.ended.is_set():
                await sleep(0)

    back_off = seat.BACK_OFF
    run(work, Row(*(Fake(str(place)) for place in range(12))), monkeypatch, back_off=back_off)
    assert slept == [*back_off, *[back_off[-1]] * (11 - len(back_off))]
    assert back_off[-1] <= 2.0


def test_who_waits_for_a_worker_that_does_not_come_is_told_soon(monkeypatch: pytest.MonkeyPatch):
    async def never(self: seat.Seat) -> None:
        await asyncio.Event().wait()

    async def work(host: Host, swaps: Swaps) -> None:
        monkeypatch.setattr(seat.Seat, "_reopen", never)
        monkeypatch.setattr(hosting, "PATIENCE", 0.05)
        with host.lease() as lease:
            async with asyncio.timeout(5):
                asked = (lease.run(Decode(client="", rows=[[number]]), 1000) for number in range(50))
                told = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(each, Failure) and each.retry_after is not None for each in told)

    run(work, Row(Fake("first", fails=50)), monkeypatch)


def test_where_opening_takes_long_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch):
    async def work(host: Host, swaps: Swaps) -> None:
        host.seats[0].opening = 2 * hosting.PATIENCE
        with pytest.raises(Failure, match="started again") as caught, host.lease() as lease:
            async with asyncio.timeout(hosting.PATIENCE / 2):
                await lease.run(CALL, 1000)
        assert caught.value.retry_after == 2 * hosting.PATIENCE, "and its client is told how long it takes"

    run(work, Row(Fake("first", fails=1), *(EngineError("no memory") for _ in range(1000))), monkeypatch)


def test_opening_is_tried_until_it_works(monkeypatch: pytest.MonkeyPatch):
    row = Row(Fake("first"), EngineError("no memory"), CollectionError("gone"), Fake("second"))

    async def work(host: Host, swaps: Swaps) -> None:
        host.current.ended.set()
        await until(lambda: host.restarts == 1 and host.current is not None)
        assert host.current.facts["notes"].version == "second"

    run(work, row, monkeypatch)
    assert len(row.asked) == 4


def test_waiting_for_the_next_worker_ends_with_the_requests_time(monkeypatch: pytest.MonkeyPatch):
    async def never(self: seat.Seat) -> None:
        await asyncio.Event().wait()

    async def work(host: Host, swaps: Swaps) -> None:
        monkeypatch.setattr(seat.Seat, "_reopen", never)
        with pytest.raises(Failure, match="started again"), host.lease() as lease:
            await lease.run(CALL, 0.05)
        with pytest.raises(Failure, match="started again"), host.lease():
            pass
        assert not host._leases

    run(work, Row(Fake("first", fails=1)), monkeypatch)


def test_a_replaced_backend_stays_open_until_its_last_lease_is_back(monkeypatch: pytest.MonkeyPatch, tmp_path):
    first, second, third = Fake("first"), Fake("second", version="v2"), Fake("third", version="v2")

    async def work(host: Host, swaps: Swaps) -> None:
        monkeypatch.setattr(swapping, "read_pointer", lambda path: Pointer("v2", "0"))
        host.catalogue.paths["notes"] = tmp_path
        with host.lease() as lease:
            assert await swaps.swap() is True
            assert host.current is second
            await asyncio.sleep(0.1)
            assert not first.closed
            assert await lease.run(CALL, 1) == "first"
        await until(lambda: first.closed)
        assert await swaps.swap() is False  # nothing is new
        with host.lease():  # a lease that is never returned delays closing, and no longer than it may
            assert await swaps.swap(force=True) is True
            await until(lambda: second.closed)
        assert host.restarts == 0  # closing what was replaced is no death

    run(work, Row(first, second, third), monkeypatch)


def test_what_a_replaced_engine_leaves_on_the_card_is_given_back(monkeypatch: pytest.MonkeyPatch, tmp_path):
    first, emptied = Fake("first"), list[bool]()
    cuda = SimpleNamespace(is_initialized=lambda: True, empty_cache=lambda: emptied.append(first.closed))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))

    async def work(host: Host, swaps: Swaps) -> None:
        monkeypatch.setattr(swapping, "read_pointer", lambda path: Pointer("v2", "0"))
        host.catalogue.paths["notes"] = tmp_path
        assert await swaps.swap() is True
        await until(lambda: bool(emptied))
        assert emptied == [True]  # once it is closed, or there is nothing to give

    run(work, Row(first, Fake("second")), monkeypatch)


def test_a_version_that_does_not_answer_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path):
    first, broken = Fake("first"), Fake("broken", fails=1)

    async def work(host: Host, swaps: Swaps) -> None:
        monkeypatch.setattr(swapping, "read_pointer", lambda path: Pointer("v2", "0"))
        host.catalogue.paths["notes"] = tmp_path
        assert await swaps.swap() is False
        assert broken.closed
        assert host.current is first
        assert await swaps.swap() is False  # it is not opened a second time

    row = Row(first, broken)
    run(work, row, monkeypatch)
    assert len(row.asked) == 2


def test_a_version_without_room_beside_the_old_one_is_refused_loudly_and_the_old_one_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path, caplog: pytest.LogCaptureFixture
):
    """The card is pretended: the form is planned for all of it, of which the version being served has the most."""
    gib = 2**30
    vectors = GpuPlan(kind="ivf-flat", reason="a test", nbytes=40 * gib)
    planned = MemoryPlan((Item("vectors (ivf-flat)", 40 * gib, "use a larger card"),), vectors, 30 * gib, 76 * gib)
    with pytest.raises(DeviceError) as refused:
        planned.check()
    first = Fake("first")

    async def work(host: Host, swaps: Swaps) -> None:
        monkeypatch.setattr(swapping, "read_pointer", lambda path: Pointer("v2", "0"))
        host.catalogue.paths["notes"] = tmp_path
        assert await swaps.swap() is False
        assert host.current is first
        assert not first.closed
        with host.lease() as lease:
            assert await lease.run(CALL, 1) == "first"
        assert host.metrics.swaps.labels("refused")._value.get() == 1

    run(work, Row(first, refused.value), monkeypatch)
    record = next(record for record in caplog.records if "refused" in record.message)
    assert record.levelname == "ERROR"
    assert "46.00 GiB of the card are taken by others, perhaps by the version being served" in record.error
    assert record.serving == "first"


def test_all_calls_of_a_request_move_on_together_and_are_counted_once(monkeypatch: pytest.MonkeyPatch):
    """The four queries of a search lose their worker at once; the lease is one."""

    async def work(host: Host, swaps: Swaps) -> None:
        with host.lease() as lease:
            calls = [Decode(client="", rows=[[number]]) for number in range(4)]
            answers = await asyncio.gather(*(lease.run(call, 10) for call in calls))
            assert answers == ["second"] * 4
            assert dict(host._leases) == {id(host.current): 1}
        assert not host._leases
        assert host.metrics.retried._value.get() == 4

    run(work, Row(Fake("first", fails=4), Fake("second")), monkeypatch)


def test_a_lease_stays_counted_when_no_worker_comes(monkeypatch: pytest.MonkeyPatch):
    async def work(host: Host, swaps: Swaps) -> None:
        with pytest.raises(Failure, match="started again"), host.lease() as lease:
            await lease.run(CALL, 0.05)
        assert not host._leases

    run(work, Row(Fake("first", fails=1), *(EngineError("no memory") for _ in range(1000))), monkeypatch)


@dataclass(eq=False)
class Mortal(Fake):
    """Dies of the poison, and only of that."""

    async def run(self, call: Any, name: str) -> str:
        await asyncio.sleep(0)
        if self.ended.is_set() or call.rows == [[666]]:
            self.ended.set()
            raise WorkerLost("killed")
        return self.name


def test_who_lost_a_worker_beside_the_guilty_one_is_answered(monkeypatch: pytest.MonkeyPatch):
    poison, innocent = Decode(client="", rows=[[666]]), Decode(client="", rows=[[1]])

    async def work(host: Host, swaps: Swaps) -> None:
        async def ask(call: Decode) -> str:
            with host.lease() as lease:
                return await lease.run(call, 10)

        guilty, other = await asyncio.gather(ask(poison), ask(innocent), return_exceptions=True)
        assert isinstance(guilty, Failure)
        assert other == "third"
        assert not host._leases

    run(work, Row(Mortal("first"), Mortal("second"), Mortal("third")), monkeypatch)


def test_a_refusal_ends(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(poison_requests.time, "monotonic", lambda: now[0])
    kept = poison_requests.PoisonRequests()
    first, second, third = Fake("1"), Fake("2"), Fake("3")
    row = [(first, False), (first, False), (second, True), (second, True), (third, False)]
    assert [kept.strike(CALL, worker, alone=alone) for worker, alone in row] == [False] * 4 + [True]
    assert kept.refuses(CALL)
    now[0] = poison_requests.TERM + 1
    assert not kept.refuses(CALL)
    for number in range(2 * poison_requests.REMEMBERED):
        kept.strike(Decode(client="", rows=[[number]]), first, alone=False)
    assert len(kept._strikes) == poison_requests.REMEMBERED


@dataclass(eq=False)
class Open(Fake):
    """Has collections open, by name and version, and opens, closes and moves to versions as it is told."""

    opened: dict[str, Says] = field(default_factory=dict)
    cannot: set[str] = field(default_factory=set)

    @property
    def facts(self) -> dict[str, Says]:
        return self.opened

    async def run(self, call: Any, name: str) -> Any:
        await asyncio.sleep(0)
        if self.ended.is_set():
            raise WorkerLost("killed")
        if isinstance(call, rpc_calls.Close):
            self.opened.pop(name, None)
        elif isinstance(call, rpc_calls.Open | Refresh):
            if name in self.cannot:
                raise CollectionError("damaged")
            return Says(POINTERS[name].version, name)
        return self.name


POINTERS: dict[str, Pointer] = {}


def of_two(
    work: Callable[[Host, Swaps, list[Open]], Coroutine[Any, Any, None]], monkeypatch: pytest.MonkeyPatch
) -> list[Open]:
    """Run `work` with two workers that have the collections notes and manuals open; every worker that there was."""
    made: list[Open] = []
    monkeypatch.setattr(swapping, "read_pointer", lambda path: POINTERS.get(path.name))
    for name in ("BACK_OFF", "FAILED"):
        monkeypatch.setattr(seat, name, (0.0,))
    POINTERS.clear()
    POINTERS.update(notes=Pointer("v1", "0"), manuals=Pointer("v1", "0"))

    async def opener(worker: int, collections: Sequence[Wanted]) -> Any:
        opened = {each.name: Says((each.version or POINTERS[each.name]).version, each.name) for each in collections}
        made.append(Open(f"worker {worker}", opened=opened))
        return made[-1]

    async def main() -> None:
        paths = {name: Path(name) for name in POINTERS}
        host = Host(paths, opener, Metrics(), close_after=0.2, workers=2)
        swaps = Swaps(host)
        try:
            await swaps.open()
            await work(host, swaps, made)
        finally:
            await host.close()

    asyncio.run(main())
    return made


def test_a_request_goes_to_the_worker_that_has_least_to_do(monkeypatch: pytest.MonkeyPatch):
    async def work(host: Host, swaps: Swaps, made: list[Open]) -> None:
        with host.lease() as first, host.lease() as second, host.lease() as third:
            assert [first.seat.number, second.seat.number, third.seat.number] == [0, 1, 0], "they take turns"
        cost = {0: 2.0, 1: 0.5}
        with host.lease(cost=cost.__getitem__) as lease, host.lease(cost=cost.__getitem__) as other:
            assert [lease.seat.number, other.seat.number] == [1, 1], "seconds count, not requests"

    of_two(work, monkeypatch)


def test_the_others_answer_while_one_is_started_again(monkeypatch: pytest.MonkeyPatch):
    async def never(self: seat.Seat) -> None:
        await asyncio.Event().wait()

    async def work(host: Host, swaps: Swaps, made: list[Open]) -> None:
        monkeypatch.setattr(seat.Seat, "_reopen", never)
        with host.lease() as lease:
            assert lease.backend is made[0]
            made[0].ended.set()
            moved: list[int] = []
            lease.moved = moved.append
            assert await lease.run(CALL, 1) == "worker 1", "at once, of the other"
            assert moved == [1]
            assert lease.seat.number == 1
        for _ in range(3):
            with host.lease() as lease:
                assert await lease.run(CALL, 1) == "worker 1"
        assert host.restarts == 1
        made[1].ended.set()
        await until(lambda: host.current is None)
        with pytest.raises(Failure, match="started again"), host.lease():
            pass

    assert len(of_two(work, monkeypatch)) == 2


def test_all_workers_move_to_a_new_version(monkeypatch: pytest.MonkeyPatch):
    async def work(host: Host, swaps: Swaps, made: list[Open]) -> None:
        POINTERS["notes"] = Pointer("v2", "0")
        assert await swaps.swap() is True
        assert [each.opened["notes"].version for each in made] == ["v2", "v2"]
        assert [each.opened["manuals"].version for each in made] == ["v1", "v1"]
        assert await swaps.swap() is False
        made[1].opened["notes"] = Says("v1")  # opened while the others moved
        assert await swaps.swap() is True
        assert made[1].opened["notes"].version == "v2"

    assert len(of_two(work, monkeypatch)) == 2, "none was opened anew"


def test_a_version_that_comes_while_no_worker_lives_is_served_later(monkeypatch: pytest.MonkeyPatch):
    async def work(host: Host, swaps: Swaps, made: list[Open]) -> None:
        for each in made[:2]:
            each.ended.set()
        POINTERS["notes"] = Pointer("v2", "0")
        assert not host.living
        assert await swaps.swap() is False
        await until(lambda: len(host.living) == 2)
        assert await swaps.swap() is True, "it was not refused"
        assert [each.facts["notes"].version for each in host.living] == ["v2", "v2"]

    of_two(work, monkeypatch)


def test_a_worker_that_ends_while_it_moves_is_no_error_of_the_version(monkeypatch: pytest.MonkeyPatch):
    async def work(host: Host, swaps: Swaps, made: list[Open]) -> None:
        POINTERS["notes"] = Pointer("v2", "0")
        made[1].ended.set()
        assert await swaps.swap() is True
        assert made[0].opened["notes"].version == "v2"
        await until(lambda: len(host.living) == 2)
        assert [each.facts["notes"].version for each in host.living] == ["v2", "v2"]

    assert len(of_two(work, monkeypatch)) == 3, "only the one that ended was opened again"


def test_what_has_moved_to_a_version_that_is_refused_comes_back(monkeypatch: pytest.MonkeyPatch):
    async def work(host: Host, swaps: Swaps, made: list[Open]) -> None:
        async def refuse(wanted: Sequence[Wanted]) -> Any:
            raise CollectionError("no memory for two")

        monkeypatch.setattr(host, "open_all", refuse)
        POINTERS["notes"] = Pointer("v2", "0")
        made[1].cannot.add("notes")
        assert await swaps.swap() is False
        await until(lambda: made[0].closed and len(host.living) == 2)
        assert [each.facts["notes"].version for each in host.living] == ["v1", "v1"]

    of_two(work, monkeypatch)


def test_what_opens_again_while_collections_change_has_them_before_it_is_asked(monkeypatch: pytest.MonkeyPatch):
    async def work(host: Host, swaps: Swaps, made: list[Open]) -> None:
        late = asyncio.Event()
        opener = host.seats[1]._opener

        async def slow(worker: int, collections: Sequence[Wanted]) -> Any:
            backend = await opener(worker, collections)
            await late.wait()
            return backend

        host.seats[1]._opener = slow
        made[1].ended.set()
        await until(lambda: len(made) == 3)
        POINTERS.update(notes=Pointer("v2", "0"), attic=Pointer("v1", "0"))
        assert await swaps.swap() is True
        await swaps.add("attic", Path("attic"))
        await swaps.remove("manuals")
        late.set()
        await until(lambda: len(host.living) == 2)
        assert {name: facts.version for name, facts in made[2].facts.items()} == {"notes": "v2", "attic": "v1"}

    of_two(work, monkeypatch)


def test_a_request_is_tried_again_where_its_collection_is_open(monkeypatch: pytest.MonkeyPatch):
    async def work(host: Host, swaps: Swaps, made: list[Open]) -> None:
        with host.lease("manuals") as lease:
            assert lease.backend is made[0]
            made[1].opened.pop("manuals")  # left out when it was opened
            made[0].ended.set()
            assert await lease.run(CALL, 10) == "worker 0", "of the one that opens again"
            assert "manuals" in lease.backend.facts

    of_two(work, monkeypatch)


def test_where_one_cannot_move_all_are_opened_anew_or_none(monkeypatch: pytest.MonkeyPatch):
    async def work(host: Host, swaps: Swaps, made: list[Open]) -> None:
        POINTERS["notes"] = Pointer("v2", "0")
        made[1].cannot.add("notes")
        assert await swaps.swap() is True
        assert host.living == made[2:]
        await until(lambda: made[0].closed and made[1].closed)
        assert not made[2].closed
        assert host.restarts == 0

    assert len(of_two(work, monkeypatch)) == 4


def test_of_two_new_versions_the_one_that_can_be_opened_is_served(monkeypatch: pytest.MonkeyPatch):
    async def work(host: Host, swaps: Swaps, made: list[Open]) -> None:
        opened = host.open_all

        async def refuse(wanted: Sequence[Wanted]) -> Any:
            if any(each.name == "manuals" and each.version == Pointer("v2", "0") for each in wanted):
                raise CollectionError("manuals is damaged")
            return await opened(wanted)

        monkeypatch.setattr(host, "open_all", refuse)
        for each in made:
            each.cannot |= {"notes", "manuals"}
        POINTERS.update(notes=Pointer("v2", "0"), manuals=Pointer("v2", "0"))
        assert await swaps.swap() is True
        assert {name: facts.version for name, facts in host.facts.items()} == {"notes": "v2", "manuals": "v1"}
        assert await swaps.swap() is False, "what was refused is not tried again"

    of_two(work, monkeypatch)


def test_what_comes_and_goes_does_so_in_every_worker(monkeypatch: pytest.MonkeyPatch):
    async def work(host: Host, swaps: Swaps, made: list[Open]) -> None:
        POINTERS["attic"] = Pointer("v1", "0")
        assert (await swaps.add("attic", Path("attic"))).version == "v1"
        assert all("attic" in each.opened for each in made)
        await swaps.remove("attic")
        assert not any("attic" in each.opened for each in made)

        made[1].cannot.add("attic")
        with pytest.raises(CollectionError, match="damaged"):
            await swaps.add("attic", Path("attic"))
        assert not any("attic" in each.opened for each in made), "what one cannot open no other keeps open"
        assert "attic" not in host.catalogue.paths

        made[0].opened["gone"] = Says("v1", "gone")  # removed while this worker was started again
        await swaps.swap()
        assert "gone" not in made[0].opened

    of_two(work, monkeypatch)


def test_a_collection_is_added_also_when_its_client_leaves(monkeypatch: pytest.MonkeyPatch):
    async def work(host: Host, swaps: Swaps, made: list[Open]) -> None:
        POINTERS["attic"] = Pointer("v1", "0")
        asked = asyncio.ensure_future(swaps.add("attic", Path("attic")))
        await asyncio.sleep(0)
        asked.cancel()
        await until(lambda: "attic" in host.catalogue.paths)
        asked = asyncio.ensure_future(swaps.remove("attic"))
        await asyncio.sleep(0)
        asked.cancel()
        await until(lambda: not any("attic" in each.opened for each in made))
        assert "attic" not in host.catalogue.paths

    of_two(work, monkeypatch)


def test_of_workers_that_open_together_none_is_left_open_when_one_cannot(monkeypatch: pytest.MonkeyPatch):
    first = Fake("first")

    async def opener(worker: int, collections: Sequence[Wanted]) -> Any:
        if worker:
            await asyncio.sleep(0.01)
            raise EngineError("no memory")
        return first

    async def main() -> None:
        host = Host({"notes": Path("nowhere")}, opener, Metrics(), close_after=0.2, workers=2)
        with pytest.raises(EngineError, match="no memory"):
            await Swaps(host).open()
        assert first.closed
        assert host.current is None
        await host.close()

    asyncio.run(main())


def test_an_engine_that_was_given_is_not_replaced(monkeypatch: pytest.MonkeyPatch):
    """By an embedded server nothing can be opened anew: what it cannot move to is refused."""
    monkeypatch.setattr(swapping, "read_pointer", lambda path: Pointer("v2", "0"))

    async def main() -> None:
        host = Host({}, None, Metrics(), close_after=0.2)
        given = Open("given", opened={"notes": SimpleNamespace(**vars(Says("v1")), path="notes")}, cannot={"notes"})
        host.adopt(given)
        swaps = Swaps(host)
        assert await swaps.swap() is False
        assert await swaps.reload() is False
        assert host.current is given
        await host.close()

    asyncio.run(main())
