"""Contestants in turns, and callers at once: the loops that every figure of the benchmarks comes out of."""

from __future__ import annotations

import threading
from functools import partial
from itertools import cycle, islice

import pytest

from tandem.bench import turns
from tandem.bench.stats import percentiles
from tandem.bench.turns import FEWEST, WARM, Unavailable, at_once, in_turns


class Clock:
    """A clock that only contestants move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(turns.time, "perf_counter", lambda: self.now)

    def takes(self, seconds: float, turn: int) -> int:
        self.now += seconds
        return turn


def test_everybody_is_measured_once_a_round_in_an_order_that_changes():
    called: list[tuple[str, int]] = []

    def contestant(name: str, turn: int) -> str:
        called.append((name, turn))
        return f"{name}{turn}"

    told: list[int] = []
    taken, failed = in_turns(
        {name: partial(contestant, name) for name in "abc"}, 20, warm_up=2,
        progress=lambda done, total, what: told.append(done),
    )  # fmt: skip
    assert failed == {}
    assert taken == {name: [f"{name}{turn}" for turn in range(20)] for name in "abc"}, "warming up is not counted"
    assert [turn for _, turn in called] == [WARM] * 6 + [turn for turn in range(20) for _ in "abc"]
    orders = {"".join(name for name, _ in called[start : start + 3]) for start in range(0, len(called), 3)}
    assert len(orders) > 1
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert told == [0, 0, *range(1, 21)]


@pytest.mark.parametrize("when", [WARM, 0, 2])
def test_who_fails_is_left_out_with_the_reason(when: int):
    asked = []

    def fails(turn: int) -> int:
        asked.append(turn)
        if turn == when:
            raise Unavailable("it has no encoder")
        return turn

    taken, failed = in_turns({"ours": lambda turn: turn, "theirs": fails}, 4)
    assert taken == {"ours": [0, 1, 2, 3]}, "what it gave before is no result either"
    assert failed == {"theirs": "it has no encoder"}
    assert asked[-1] == when


def test_an_error_that_is_no_absence_is_raised():
    def breaks(turn: int) -> int:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        in_turns({"ours": breaks}, 1)
    assert in_turns({"ours": breaks}, 1, failing=Exception) == ({}, {"ours": "ValueError: broken"})


def test_a_slow_first_call_costs_no_round(monkeypatch: pytest.MonkeyPatch):
    """torch.compile: compiling, warming up, recording, and from then on the time that is measured."""
    clock, slow = Clock(monkeypatch), iter([60.0, 9.0, 5.0, *[1.0] * 100])
    taken, _ = in_turns({"": lambda turn: clock.takes(next(slow), turn)}, 50, warm_up=3, seconds=20.0)
    assert taken[""] == list(range(20))


def test_there_is_a_fewest_of_rounds_however_slow(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    taken, _ = in_turns({"": partial(clock.takes, 100.0)}, 50, seconds=5.0)
    assert len(taken[""]) == FEWEST


def test_callers_share_the_work():
    together = threading.Barrier(2, timeout=60)  # broken unless two callers ask at the same time

    def ask(work: int) -> float:
        if work < 2:
            together.wait()
        return float(work)

    seconds, taken, errors = at_once(ask, iter(range(50)), 2)
    assert sorted(taken) == list(range(50))
    assert seconds > 0
    assert not errors


def test_what_is_asked_at_the_same_time_is_different():
    """Of queries that come again and again; one asked twice at once would be answered by the other's answer."""
    everybody, held = threading.Barrier(4, timeout=60), []

    def ask(work: int) -> float:
        held.append(work)
        everybody.wait()
        return 0.0

    _, _, errors = at_once(ask, islice(cycle(range(8)), 40), 4)
    assert not errors
    assert len(held) == 40
    assert all(len(set(held[start : start + 4])) == 4 for start in range(0, 40, 4))


def test_a_callers_error_is_told_and_ends_that_caller():
    def ask(work: int) -> float:
        if work == 3:
            raise ValueError("broken")
        return float(work)

    _, taken, errors = at_once(ask, iter(range(10)), 2)
    assert sorted(taken) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert [str(error) for error in errors] == ["broken"]
    assert at_once(ask, iter([3, 3]), 2)[1] == []


def test_a_p99_of_few_samples_is_left_out():
    assert percentiles([1.0] * 199)["p99 ms"] is None
    assert percentiles([1.0] * 200) == {"p50 ms": 1.0, "p95 ms": 1.0, "p99 ms": 1.0, "samples": 200}
