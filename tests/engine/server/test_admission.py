"""What admission learns of its predictions."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from tandem.engine.server import admission
from tandem.engine.server.admission import LEAST_ERROR, MOST_ERROR, Admission, Work
from tandem.engine.server.errors import Failure


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(admission.time, "monotonic", lambda: now[0])
    return now


def served(
    admitted: Admission, clock: list[float], work: Work, seconds: float, error: BaseException | None = None
) -> None:
    with suppress(asyncio.CancelledError, RuntimeError), admitted.reserve(work, 1e9):
        clock[0] += seconds
        if error is not None:
            raise error


def test_it_rises_where_requests_take_longer_than_predicted_and_falls_where_not(clock: list[float]):
    admitted = Admission(10**9, 10**9)
    for _ in range(20):
        served(admitted, clock, Work(100, 0.1), 0.5)
    assert admitted.error > 2
    with admitted.reserve(Work(100, 1.0), 1e9), pytest.raises(Failure) as refused:
        admitted.reserve(Work(100, 1.0), 3.0).__enter__()  # two seconds are predicted
    assert refused.value.reason == "late"
    for _ in range(2000):
        served(admitted, clock, Work(100, 0.1), 0.1)
    assert admitted.error == pytest.approx(LEAST_ERROR, rel=0.05)


def test_it_is_forgotten_with_time(clock: list[float]):
    admitted = Admission(10**9, 10**9)
    for _ in range(50):
        served(admitted, clock, Work(100, 0.1), 10)
    assert admitted.error == pytest.approx(MOST_ERROR, rel=0.3)
    clock[0] += 3 * admission.FORGET_SECONDS
    served(admitted, clock, Work(100, 0.1), 0.1)
    assert admitted.error == LEAST_ERROR


def test_what_costs_the_device_nothing_and_what_nobody_waits_for_teaches_nothing(clock: list[float]):
    admitted = Admission(10**9, 10**9)
    for _ in range(50):
        served(admitted, clock, Work(100_000, 0.0), 1.0)

    for _ in range(50):
        served(admitted, clock, Work(100, 0.1), 0.0, asyncio.CancelledError())
        served(admitted, clock, Work(100, 0.1), 60.0, RuntimeError())
    assert admitted.error == LEAST_ERROR


def test_a_broken_promise_is_learnt_from(clock: list[float]):
    admitted = Admission(10**9, 10**9)
    served(admitted, clock, Work(100, 0.1), 5.0, asyncio.CancelledError())
    assert admitted.error > LEAST_ERROR
