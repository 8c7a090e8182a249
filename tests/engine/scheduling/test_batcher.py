"""The batcher with models that answer with what they were asked, so that any mix-up of requests shows in the answer."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine.errors import DeviceError, EngineClosed, InferenceError, OutOfMemory, Overloaded
from tandem.engine.scheduling.batcher import Batcher
from tandem.engine.scheduling.cost_model import PADDED_BLOCK as BLOCK
from tandem.engine.scheduling.cost_model import CostModel
from tandem.engine.scheduling.job import FairQueue, Job, Served, serving_order
from tandem.engine.scheduling.micro_batch import form
from tandem.engine.text.tokens import TokenBatch, pack

POISON = 666
NOT_A_NUMBER = 667


class Echo:
    """Answers with each sequence's first id; fails on POISON like a runtime does, on NOT_A_NUMBER like a model does."""

    def __init__(self, tokens: int = 64, gate: threading.Event | None = None, call: float = 0.0) -> None:
        self.cost = CostModel(call=call or 1e-9, token=0.0, square=0.0, tokens=tokens)
        self.gate = gate
        self.batches: list[list[int]] = []

    def run(self, batch: TokenBatch) -> list[int | InferenceError]:
        if self.gate is not None:
            assert self.gate.wait(10)
        firsts = [int(batch[row][0]) for row in range(len(batch))]
        self.batches.append(firsts)
        if POISON in firsts:
            raise RuntimeError("poison")
        return [InferenceError("not finite") if first == NOT_A_NUMBER else first for first in firsts]


@pytest.fixture
def batcher():
    made = Batcher(queue_tokens=100_000)
    yield made
    made.close()


def sequences(firsts: list[int], length: int = 8) -> TokenBatch:
    return pack([[first] * length for first in firsts])


def test_each_request_gets_its_own_answers_under_concurrency(batcher: Batcher):
    model = Echo()
    answers: dict[int, list[int]] = {}

    def ask(caller: int) -> None:
        firsts = [caller * 1000 + i for i in range(caller + 1)]
        answers[caller] = batcher.submit(Job(model, sequences(firsts, length=1 + caller))).result(10).results

    threads = [threading.Thread(target=ask, args=(caller,)) for caller in range(1, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {caller: [caller * 1000 + i for i in range(caller + 1)] for caller in range(1, 20)}


def test_requests_that_wait_together_share_a_micro_batch(batcher: Batcher):
    gate = threading.Event()
    model = Echo(tokens=1000, gate=gate)
    futures = [batcher.submit(Job(model, sequences([caller]))) for caller in range(10)]
    gate.set()
    assert [future.result(10).results for future in futures] == [[caller] for caller in range(10)]
    assert len(model.batches) <= 2  # the first may have started alone


def test_a_small_request_does_not_wait_for_a_large_one(batcher: Batcher):
    gate = threading.Event()
    model = Echo(tokens=16, gate=gate)  # two sequences a micro-batch
    model.cost.token = 1e-3
    large = batcher.submit(Job(model, sequences(list(range(600)))))
    small = batcher.submit(Job(model, sequences([5000, 5001, 5002])))
    batches_before_small = []
    small.add_done_callback(lambda _: batches_before_small.append(len(model.batches)))  # on the device thread
    gate.set()
    large.result(10)
    assert small.result(10).results == [5000, 5001, 5002]
    assert batches_before_small[0] <= 5


def test_a_client_with_many_requests_does_not_push_back_another(batcher: Batcher):
    gate = threading.Event()
    model = Echo(tokens=8, gate=gate)  # one sequence a micro-batch
    greedy = [batcher.submit(Job(model, sequences([place]), client="greedy")) for place in range(200)]
    polite = batcher.submit(Job(model, sequences([5000, 5001]), client="polite"))
    before = []
    polite.add_done_callback(lambda _: before.append(len(model.batches)))  # on the device thread
    gate.set()
    assert polite.result(10).results == [5000, 5001]
    assert [future.result(10).results for future in greedy] == [[place] for place in range(200)]
    assert before[0] <= 6


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_turns_serve_clients_round_by_round(clients: list[str]):
    turns = FairQueue()
    jobs = [Job(Echo(), sequences([place]), client=client) for place, client in enumerate(clients)]
    for job in jobs:
        turns.append(job)
    served = []
    while len(turns):
        first = turns.in_turn()[0]
        turns.rotate()
        turns.remove(first)
        served.append(first)
    assert sorted(map(id, served)) == sorted(map(id, jobs))
    for client in set(clients):
        assert [job for job in served if job.client == client] == [job for job in jobs if job.client == client]
        # Nobody is served twice while somebody else who waits is not served once.
        places = [place for place, job in enumerate(served) if job.client == client]
        assert all(b - a <= len(set(clients)) for a, b in pairwise(places))


def test_jobs_of_a_client_are_passed_by_shorter_ones_until_they_have_waited_as_long_as_they_take():
    model = Echo()
    model.cost = CostModel(call=0.0, token=1.0, square=0.0, tokens=10_000)  # a second a token
    long, short, late = (Job(model, pack([[1] * tokens])) for tokens in (10, 2, 2))
    long.queued_at, short.queued_at, late.queued_at = 100.0, 107.0, 109.0
    turns = FairQueue()
    for job in (late, long, short):
        turns.append(job)
    assert turns.in_turn() == [short, long, late]


def test_the_second_job_of_a_request_stands_where_its_first_one_stood():
    turns = FairQueue()
    earlier = Job(Echo(), sequences([1]), queued_at=2.0)
    begun = Job(Echo(), sequences([2]), queued_at=3.0, asked_at=1.0)
    for job in (earlier, begun):
        turns.append(job)
    assert turns.in_turn() == [begun, earlier]


def test_identical_sequences_in_flight_are_scored_once(batcher: Batcher):
    gate = threading.Event()
    model, other = Echo(tokens=8, gate=gate), Echo(tokens=8)  # one sequence a micro-batch
    first = batcher.submit(Job(model, sequences([1, 2, 3])))
    same = batcher.submit(Job(model, sequences([3, 9, 2, 2])))
    patient = batcher.submit(Job(model, sequences([9, 1]), deadline=time.monotonic() + 3600))
    different = batcher.submit(Job(other, sequences([1, 2, 3])))
    gate.set()
    assert first.result(10).results == [1, 2, 3]
    assert same.result(10).results == [3, 9, 2, 2]
    assert patient.result(10).results == [9, 1]
    assert different.result(10).results == [1, 2, 3]
    assert sorted(first for batch in model.batches for first in batch) == [1, 2, 3, 9]
    assert sorted(first for batch in other.batches for first in batch) == [1, 2, 3]


def test_a_twin_of_what_was_scored_already_takes_its_result(batcher: Batcher):
    gate = threading.Event()
    model = Echo(tokens=8, gate=gate)

    slow = batcher.submit(Job(model, sequences(list(range(40)))))
    gate.set()
    late = batcher.submit(Job(model, sequences(list(range(40)))))
    assert slow.result(10).results == late.result(10).results == list(range(40))
    assert sum(map(len, model.batches)) <= 80  # it may have come too late for any, never for more than all
    with batcher._condition:
        assert len(batcher._duplicates) == 0


def test_when_the_owner_leaves_its_twins_are_served_all_the_same(batcher: Batcher):
    gate = threading.Event()
    model = Echo(tokens=8, gate=gate)
    batcher.submit(Job(model, sequences([100])))
    leaving = batcher.submit(Job(model, sequences([1, 2])))
    staying = batcher.submit(Job(model, sequences([2, 1])))
    assert leaving.cancel()
    gate.set()
    assert staying.result(10).results == [2, 1]


def test_a_poisoned_sequence_fails_every_request_that_has_it(batcher: Batcher):
    gate = threading.Event()
    model = Echo(tokens=10_000, gate=gate)
    clean = batcher.submit(Job(model, sequences([1, 2])))
    bad = [batcher.submit(Job(model, sequences([3, POISON]))) for _ in range(2)]
    gate.set()
    assert clean.result(10).results == [1, 2]
    for future in bad:
        with pytest.raises(InferenceError, match="poison"):
            future.result(10)


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=8))
def test_with_twins_everybody_gets_their_own_answers(requests: list[list[int]]):
    gate = threading.Event()
    batcher, model = Batcher(queue_tokens=100_000), Echo(tokens=24, gate=gate)
    try:
        blocker = batcher.submit(Job(model, sequences([999])))
        futures = [batcher.submit(Job(model, sequences(firsts), client=str(len(firsts)))) for firsts in requests]
        gate.set()
        blocker.result(10)
        assert [future.result(10).results for future in futures] == requests
        ran = [first for batch in model.batches for first in batch if first != 999]
        if len(requests) > 1:
            assert len(ran) == len(set(ran))
    finally:
        gate.set()
        batcher.close()


def test_urgent_jobs_go_first(batcher: Batcher):
    gate = threading.Event()
    model, urgent = Echo(tokens=8, gate=gate), Echo(tokens=8)
    waiting = batcher.submit(Job(model, sequences([1, 2, 3])))
    recall = batcher.submit(Job(urgent, sequences([9]), urgent=True))
    batches_before_recall = []
    recall.add_done_callback(lambda _: batches_before_recall.append(len(model.batches)))  # on the device thread
    gate.set()
    waiting.result(10)
    assert batches_before_recall[0] <= 1  # at most the micro-batch that had started


def test_one_poisoned_request_fails_alone(batcher: Batcher):
    gate = threading.Event()
    model = Echo(tokens=10_000, gate=gate)
    firsts = [*range(30), POISON, *range(100, 133)]
    futures = [batcher.submit(Job(model, sequences([first]))) for first in firsts]
    gate.set()
    outcomes = [future.exception(10) for future in futures]
    assert [first for first, outcome in zip(firsts, outcomes, strict=True) if outcome] == [POISON]
    assert isinstance(outcomes[30], InferenceError)
    assert "poison" in str(outcomes[30])
    assert batcher.submit(Job(model, sequences([7]))).result(10).results == [7]


def test_a_row_that_is_not_finite_fails_its_request_only(batcher: Batcher):
    gate = threading.Event()
    model = Echo(tokens=10_000, gate=gate)
    good = batcher.submit(Job(model, sequences([1, 2])))
    bad = batcher.submit(Job(model, sequences([3, NOT_A_NUMBER])))
    gate.set()
    assert good.result(10).results == [1, 2]
    with pytest.raises(InferenceError, match="not finite"):
        bad.result(10)


def test_past_its_deadline_a_job_keeps_whole_blocks_of_the_first_of_its_order(batcher: Batcher):
    clock = iter(range(1000))

    class Slow(Echo):
        """Each micro-batch pushes the deadline nearer by making the job late after the seventh."""

        def run(self, batch: TokenBatch) -> list[int | InferenceError]:
            if next(clock) == 6:
                job.deadline = 0.0
            return super().run(batch)

    lengths = [3 + (i * 7) % 5 for i in range(100)]
    model = Slow(tokens=15)
    job = Job(model, pack([[i] * length for i, length in enumerate(lengths)]), deadline=time.monotonic() + 3600)
    results = batcher.submit(job).result(10).results
    served = [result for result in results if result is not None]
    assert served == list(range(BLOCK))  # the first of the order, though longer ones of the second block were run
    assert sum(map(len, model.batches)) > BLOCK
    count = len(model.batches)
    batcher.submit(Job(Echo(), sequences([1]))).result(10)
    assert len(model.batches) == count


def test_a_micro_batch_is_made_to_end_before_the_deadline():
    model = Echo(tokens=10_000)
    model.cost = CostModel(call=0.0, token=1.0, square=0.0, tokens=10_000)  # a second a token
    job = Job(model, sequences(list(range(10)), length=10), deadline=35.0)
    assert [len(share.rows) for share in form([job], 0.0)] == [3]
    patient = Job(model, sequences([1, 2], length=10))
    hasty = Job(model, sequences([3], length=10), deadline=25.0)
    assert [len(share.rows) for share in form([patient, hasty], 0.0)] == [2]


def test_a_model_that_forgets_a_sequence_fails_the_request_and_not_the_thread(batcher: Batcher):
    class Forgetful(Echo):
        def run(self, batch: TokenBatch) -> list[int | InferenceError]:
            return super().run(batch)[:-1]

    with pytest.raises(InferenceError, match="0 results for 1"):
        batcher.submit(Job(Forgetful(), sequences([1, 2]))).result(10)
    assert batcher.submit(Job(Echo(), sequences([7]))).result(10).results == [7]


def test_an_expired_job_is_never_run(batcher: Batcher):
    model = Echo()
    assert batcher.submit(Job(model, sequences([1]), deadline=time.monotonic() - 1)).result(10).results == [None]
    assert model.batches == []


def test_a_cancelled_job_is_never_run(batcher: Batcher):
    gate = threading.Event()
    model = Echo(tokens=8, gate=gate)
    first = batcher.submit(Job(model, sequences([1])))
    abandoned = batcher.submit(Job(model, sequences([2])))
    assert abandoned.cancel()
    gate.set()
    first.result(10)
    batcher.submit(Job(model, sequences([3]))).result(10)
    assert [2] not in model.batches


def test_a_job_without_sequences_is_answered(batcher: Batcher):
    assert batcher.submit(Job(Echo(), pack([]))).result(10).results == []


def test_a_full_queue_refuses_but_an_empty_one_takes_any_request():
    gate = threading.Event()
    batcher = Batcher(queue_tokens=100)
    model = Echo(tokens=8, gate=gate)
    big = batcher.submit(Job(model, sequences(list(range(50)))))  # 400 tokens alone: taken
    with pytest.raises(Overloaded, match="limit is 100"):
        batcher.submit(Job(model, sequences([1])))
    gate.set()
    big.result(10)
    batcher.submit(Job(model, sequences([1]))).result(10)
    batcher.close()


def test_closing_fails_what_waits_and_refuses_what_comes():
    gate = threading.Event()
    batcher = Batcher(queue_tokens=1000)
    model = Echo(tokens=8, gate=gate)
    batcher.submit(Job(model, sequences([1])))
    waiting = batcher.submit(Job(model, sequences([2, 3])))
    closing = threading.Thread(target=batcher.close)
    closing.start()
    gate.set()
    closing.join(10)
    with pytest.raises(EngineClosed):
        waiting.result(10)
    with pytest.raises(EngineClosed):
        batcher.submit(Job(model, sequences([4])))


@given(st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=8), min_size=1, max_size=6), st.integers(1, 200))
def test_micro_batches_serve_everything_once_within_the_token_budget(requests: list[list[int]], budget: int):
    model = Echo(tokens=budget)
    jobs = [Job(model, pack([[1] * length for length in lengths])) for lengths in requests]
    waiting, seen = list(jobs), [[] for _ in jobs]
    while waiting:
        shares = form(waiting, 0.0)
        lengths = [int(share.job.batch.lengths[row]) for share in shares for row in share.rows]
        assert len(lengths) == 1 or max(lengths) * len(lengths) <= budget
        for share in shares:
            seen[jobs.index(share.job)].extend(share.rows)
        waiting = [job for job in waiting if job.waiting]
    assert [sorted(rows) for rows in seen] == [list(range(len(lengths))) for lengths in requests]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(1, 400), st.integers(1, 4))
def test_a_round_that_is_begun_is_filled(lengths: list[int], budget: int, lanes: int):
    model = Echo(tokens=budget)
    model.cost.lanes = lanes
    job = Job(model, pack([[1] * length for length in lengths]))
    while job.waiting:
        (share,) = form([job], 0.0)
        assert len(share.rows) % lanes == 0 or not job.waiting
        rounds_before = (len(share.rows) - 1) // lanes * lanes
        assert rounds_before == 0 or job.lengths[share.rows[0]] * (rounds_before + 1) <= budget


@given(st.lists(st.integers(0, 500), max_size=200))
def test_serving_order_is_longest_first_inside_blocks(lengths: list[int]):
    order = serving_order(np.array(lengths, dtype=np.int64), BLOCK)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    for start in range(0, len(lengths), BLOCK):
        block = order[start : start + BLOCK]
        assert (block // BLOCK == start // BLOCK).all()
        assert sorted((lengths[row] for row in block), reverse=True) == [lengths[row] for row in block]


class Faulty(Echo):
    """Fails as a device does: too little memory above `room` sequences, or broken at a sequence POISON."""

    def __init__(self, room: int) -> None:
        super().__init__(tokens=10_000)
        self.room = room

    def run(self, batch: TokenBatch) -> list[int | InferenceError]:
        if len(batch) > self.room:
            raise OutOfMemory("too little memory")
        if int(batch[0][0]) == POISON:
            raise DeviceError("the GPU stopped working")
        return super().run(batch)


def test_out_of_memory_halves_the_batch_and_the_next_ones(batcher: Batcher):
    model = Faulty(room=3)
    assert batcher.submit(Job(model, sequences(list(range(10))))).result(10).results == list(range(10))
    assert max(map(len, model.batches)) <= 3
    before = len(model.batches)
    assert batcher.submit(Job(model, sequences(list(range(10))))).result(10).results == list(range(10))
    assert model.cost.tokens <= 3 * 8 * 2
    assert len(model.batches) > before


def test_out_of_memory_on_one_sequence_fails_its_request_only(batcher: Batcher):
    with pytest.raises(OutOfMemory):
        batcher.submit(Job(Faulty(room=0), sequences([1]))).result(10)
    assert batcher.submit(Job(Echo(), sequences([7]))).result(10).results == [7]


def test_a_broken_device_refuses_all_further_work(batcher: Batcher):
    gate = threading.Event()
    first = batcher.submit(Job(Echo(gate=gate), sequences([1])))
    poisoned = batcher.submit(Job(Faulty(room=100), sequences([POISON])))
    waiting = batcher.submit(Job(Echo(), sequences([2])))
    gate.set()
    assert first.result(10).results == [1]
    for future in (poisoned, waiting):
        with pytest.raises(DeviceError, match="stopped working"):
            future.result(10)
    with pytest.raises(DeviceError, match="stopped working"):
        batcher.submit(Job(Echo(), sequences([3])))


class Stoppable(Echo):
    """Runs its sequences one by one, asking before each but the first; `arrives` is called after `after` of them."""

    def __init__(self, after: int, arrives: Callable[[], None]) -> None:
        super().__init__(tokens=16)
        self.cost.most = 10_000
        self.after, self.arrives = after, arrives
        self.asked: list[bool] = []

    def run_until(self, batch: TokenBatch, stop: Callable[[], bool]) -> list[int | InferenceError]:
        results: list[int | InferenceError] = []
        for row in range(len(batch)):
            if row:
                self.asked.append(stop())
            if row and self.asked[-1]:
                break
            results += self.run(batch.select(np.array([row])))
            if sum(map(len, self.batches)) == self.after:
                self.arrives()
        return results


def test_a_lone_job_runs_in_large_batches_and_is_interrupted_by_another(batcher: Batcher):
    second: list[Future[Served]] = []
    model = Stoppable(5, lambda: second.append(batcher.submit(Job(model, sequences([70, 71]), client="other"))))
    told: list[tuple[int, int]] = []
    batcher.on_batch = lambda count, tokens: told.append((count, tokens))
    first = batcher.submit(Job(model, sequences(list(range(20)))))
    assert first.result(10).results == list(range(20))
    assert second[0].result(10).results == [70, 71]
    assert told[0] == (5, 40)  # nobody else waited for these, and then somebody did
    run = [first for batch in model.batches for first in batch]
    assert sorted(run) == [*range(20), 70, 71]  # each once
    assert run.index(71) < 10  # the small one did not wait for all of the large one
    assert max(count for count, _ in told[1:-1]) <= 2  # while two wait, 16 tokens at a time


def test_an_urgent_job_interrupts(batcher: Batcher):
    urgent: list[Future[Served]] = []
    recall = Echo()
    model = Stoppable(3, lambda: urgent.append(batcher.submit(Job(recall, sequences([90]), urgent=True))))
    first = batcher.submit(Job(model, sequences(list(range(9)))))
    assert first.result(10).results == list(range(9))
    assert urgent[0].result(10).results == [90]
    assert model.asked[:3] == [False, False, True]


def test_a_caller_who_leaves_ends_its_batch(batcher: Batcher):
    model = Stoppable(3, lambda: first.cancel())
    with batcher._condition:  # so that `first` is bound before it runs
        first = batcher.submit(Job(model, sequences(list(range(9)))))
    give_up = time.monotonic() + 10
    while batcher.waiting_jobs and time.monotonic() < give_up:
        time.sleep(0.001)
    assert first.cancelled()
    assert sum(map(len, model.batches)) == 3


def test_a_batch_ends_when_its_deadline_does(batcher: Batcher):
    """Though the cost model promised that all of it would fit."""
    model = Stoppable(2, lambda: time.sleep(0.3))
    job = Job(model, sequences(list(range(40))), deadline=time.monotonic() + 0.2)
    assert [result is not None for result in batcher.submit(job).result(10).results] == [False] * 40  # a cut block
    assert sum(map(len, model.batches)) == 2


def test_a_batch_that_takes_long_ends_between_two_sequences(batcher: Batcher, monkeypatch: pytest.MonkeyPatch):
    """Or a watchdog would take a large model on few cores for stuck."""
    monkeypatch.setattr("tandem.engine.scheduling.micro_batch.LONGEST_SECONDS", 0.1)
    model = Stoppable(2, lambda: time.sleep(0.2))
    told: list[tuple[int, int]] = []
    batcher.on_batch = lambda count, tokens: told.append((count, tokens))
    assert batcher.submit(Job(model, sequences(list(range(5))))).result(10).results == list(range(5))
    assert told[0] == (2, 16)


def overdue_while_running(batcher: Batcher, foreseen: float) -> float:
    """How overdue a micro-batch is that is predicted to take `foreseen` seconds, and has run for .4."""
    gate = threading.Event()
    model = Echo(gate=gate, call=foreseen)
    future = batcher.submit(Job(model, sequences([1])))
    time.sleep(0.4)
    found = batcher.overdue
    gate.set()
    assert future.result(10).results == [1]
    return found


def test_a_sequence_that_was_foreseen_to_take_long_is_not_overdue(batcher: Batcher):
    assert overdue_while_running(batcher, 5.0) == 0.0
    assert overdue_while_running(batcher, 0.01) > 0.2
    model = Echo()
    batcher.submit(Job(model, sequences([1]))).result(10)
    until = time.monotonic() + 10
    while batcher.overdue and time.monotonic() < until:
        time.sleep(0.01)
    assert batcher.overdue == 0.0, "nothing runs"


def test_a_second_job_of_a_request_is_not_refused():
    """Its first one was paid for."""
    batcher, model = Batcher(queue_tokens=100), Echo()
    with batcher._condition:  # so that what is queued waits
        full = batcher.submit(Job(model, sequences(list(range(12)))))
        with pytest.raises(Overloaded):
            batcher.submit(Job(model, sequences([1])))
        second = batcher.submit(Job(model, sequences([7, 8]), asked_at=time.monotonic()))
    assert second.result(10).results == [7, 8]
    assert full.result(10).results == list(range(12))
    batcher.close()


def test_what_was_put_back_unrun_was_still_waiting(batcher: Batcher):
    recalls: list[Future[Served]] = []

    def recall() -> None:
        recalls.append(batcher.submit(Job(Echo(), sequences([5]), urgent=True)))
        time.sleep(0.2)

    model = Stoppable(1, recall)
    with batcher._condition:
        first = batcher.submit(Job(model, sequences([1]), client="a"))
        behind = batcher.submit(Job(model, sequences([2]), client="c"))
    assert first.result(10).queued < 0.2
    assert behind.result(10).queued >= 0.2
    assert recalls[0].result(10).results == [5]


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=12), min_size=1, max_size=6),
    st.lists(st.booleans(), max_size=60),
)
def test_however_often_it_is_interrupted_everybody_gets_their_own_answers(
    requests: list[list[int]], interruptions: list[bool]
):
    left = iter(interruptions)

    class Whimsical(Echo):
        def run_until(self, batch: TokenBatch, stop: Callable[[], bool]) -> list[int | InferenceError]:
            count = 1
            while count < len(batch) and not next(left, False):
                count += 1
            return self.run(batch.select(np.arange(count)))

    model = Whimsical(tokens=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batcher, "_interrupts", lambda self, shares: lambda: True)
        batcher = Batcher(queue_tokens=100_000)
        try:
            with batcher._condition:  # so that they wait together
                futures = [batcher.submit(Job(model, sequences(firsts), client=str(c % 3)))
                           for c, firsts in enumerate(requests)]  # fmt: skip
            assert [future.result(10).results for future in futures] == requests
        finally:
            batcher.close()


def test_a_call_runs_on_the_device_thread_and_returns_what_it_does():
    batcher = Batcher(queue_tokens=100)
    try:
        assert batcher.call(lambda: threading.current_thread().name) == "tandem-device"
        assert batcher.submit(Job(Echo(), pack([[1, 2]]))).result(timeout=5).results
    finally:
        batcher.close()
    with pytest.raises(EngineClosed):
        batcher.call(lambda: None)


def test_a_call_comes_before_jobs_that_wait():
    gate = threading.Event()
    batcher, model = Batcher(queue_tokens=100_000), Echo(tokens=2, gate=gate)
    seen: list[str] = []
    try:
        running, waiting = (batcher.submit(Job(model, pack([[first, 2]]))) for first in (1, 3))
        waiting.add_done_callback(lambda _: seen.append("job"))
        while batcher._due is None:  # until the first one runs, and holds the thread
            time.sleep(0.001)
        called = threading.Thread(target=batcher.call, args=(lambda: seen.append("call"),))
        called.start()
        while not batcher._calls:
            time.sleep(0.001)
        gate.set()
        called.join(10)
        running.result(10), waiting.result(10)
        assert seen == ["call", "job"]
    finally:
        gate.set()
        batcher.close()


def test_whoever_was_called_is_not_kept():
    class Owner:
        def prepare(self) -> None:
            pass

    owner = Owner()
    kept = weakref.ref(owner)
    batcher = Batcher(queue_tokens=100)
    try:
        batcher.call(owner.prepare)
        del owner
        gc.collect()
        assert kept() is None
    finally:
        batcher.close()


def test_what_a_call_raises_is_raised_where_it_was_made():
    def prepare() -> None:
        raise OutOfMemory("no room for the graphs")

    batcher = Batcher(queue_tokens=100)
    try:
        with pytest.raises(OutOfMemory, match="no room"):
            batcher.call(prepare)
        assert batcher.submit(Job(Echo(), pack([[1, 2]]))).result(timeout=5).results, "the thread goes on"
    finally:
        batcher.close()


def test_a_call_that_finds_the_device_broken_ends_the_thread():
    def prepare() -> None:
        raise DeviceError("the card is gone")

    batcher = Batcher(queue_tokens=100)
    try:
        with pytest.raises(DeviceError, match="gone"):
            batcher.call(prepare)
        with pytest.raises(DeviceError, match="gone"):
            batcher.submit(Job(Echo(), pack([[1, 2]]))).result(timeout=5)
    finally:
        batcher.close()
