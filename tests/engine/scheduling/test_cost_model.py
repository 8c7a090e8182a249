from __future__ import annotations

import numpy as np
import pytest

from tandem.engine.scheduling.cost_model import LONG_SECONDS, PROBES, CostModel, exit_saves, learn


def machine(call: float, token: float, square: float, overhead=lambda n, width: 1.0):
    """A machine whose micro-batches take exactly what the model assumes, times `overhead`."""
    return lambda n, width: (call + token * n * width + square * n * width**2) * overhead(n, width)


def test_learns_the_coefficients_of_a_machine_that_follows_the_model():
    cost = learn(machine(2e-3, 3e-5, 4e-8), 512)
    assert cost.call == pytest.approx(2e-3, rel=1e-6)
    assert cost.token == pytest.approx(3e-5, rel=1e-6)
    assert cost.square == pytest.approx(4e-8, rel=1e-6)


def test_coefficients_are_never_negative_however_odd_the_machine():
    noise = np.random.default_rng(0)
    for _ in range(50):
        cost = learn(lambda n, width: float(noise.uniform(1e-4, 1e-1)), 512)
        assert min(cost.call, cost.token, cost.square) >= 0
        assert cost.seconds(4, 128) > 0


def test_the_best_micro_batch_is_the_measured_one():
    favours_512 = machine(0, 1e-5, 0, lambda n, width: 1.0 if n * width == 512 else 1.5)
    favours_256 = machine(0, 1e-5, 0, lambda n, width: 1.0 if n * width == 256 else 1.5)
    assert learn(favours_512, 512).tokens == 512
    assert learn(favours_256, 512).tokens == 256


def test_sequences_computed_at_once_count_as_whole_rounds():
    rounds = machine(2e-3, 3e-5, 4e-8)
    cost = learn(lambda n, width: rounds(n + n % 2, width), 512, lanes=2)
    assert cost.seconds(3, 100) == cost.seconds(4, 100) == pytest.approx(rounds(4, 100))
    assert cost.seconds(1, 128) == pytest.approx(rounds(2, 128))


@pytest.mark.parametrize("lanes", [1, 2, 16])
@pytest.mark.parametrize("lengths", [[150], [150] * 3, [500, 20], [300, 100, 100, 100], [150] * 100])
def test_a_machine_that_keeps_its_pace_has_no_drift_whatever_it_is_asked(lanes: int, lengths: list[int]):
    """Nothing padded, a core a sequence: one alone leaves cores idle, and that is no slowness."""

    def taken(sequences: list[int]) -> float:
        ends = [0.0] * lanes
        for length in sequences:
            ends[ends.index(min(ends))] += 4e-5 * length + 1e-8 * length**2
        return max(ends)

    cost = learn(lambda n, width: taken([width] * n), 512, lanes=lanes)
    cost.unpadded(interruptible=True)
    for _ in range(40):
        cost.observe(np.array(lengths), taken(lengths))
    assert cost.drift == pytest.approx(1.0, abs=0.01)


def test_a_model_and_a_share_of_it_keep_one_pace():
    cost = CostModel(call=1e-3, token=1e-3, square=1e-6, tokens=512)
    half = cost.share(0.5)
    assert half.seconds(2, 10) == pytest.approx(cost.seconds(2, 10) / 2)
    half.observe(np.array([10]), 2 * half.seconds(1, 10))
    assert cost.drift == half.drift == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("count", "finalists", "saves"),
    [(100, 20, True), (100, 55, True), (100, 57, False), (36, 20, True), (35, 20, False), (100, None, False)],
)
def test_an_exit_saves_where_two_passes_take_less_than_one(count: int, finalists: int | None, saves: bool):
    whole = CostModel(call=0.0, token=1e-4, square=0.0, tokens=512)
    assert exit_saves(np.full(count, 100), whole, whole.share(0.44), finalists) is saves
    assert not exit_saves(np.full(count, 100), whole, None, finalists)


def test_probes_stay_within_the_models_length():
    seen = []
    learn(lambda n, width: seen.append(width) or 1e-3 * n * width, 40)
    assert set(seen) == {width for _, width in PROBES if width <= 40}
    assert learn(lambda n, width: 1e-3 * n * width, 8).tokens == 8


def test_fitting_counts_the_longest_prefix_within_the_time():
    cost = CostModel(call=0.0, token=1e-3, square=0.0, tokens=1)
    lengths = np.array([10, 20, 30, 40], dtype=np.int64)  # 10, 20, 30, 40 ms
    assert [cost.fitting(lengths, seconds) for seconds in (-1.0, 0.005, 0.0101, 0.0601, 0.0999, 0.1001)] == [
        0,
        0,
        1,
        3,
        3,
        4,
    ]


def test_drift_follows_a_machine_that_became_slower_and_ignores_one_stall():
    cost = CostModel(call=0.0, token=1e-3, square=0.0, tokens=1)
    cost.observe(np.array([10]), 10.0)  # a thousand times the prediction: one stall
    assert cost.drift < 1.5
    for _ in range(100):
        cost.observe(np.array([10]), 0.020)
    assert cost.seconds(1, 10) == pytest.approx(0.020, rel=0.01)


class LongMachine:
    """Follows the model up to 512 tokens and takes `beyond` for each token² more; its clock goes on by what it does."""

    def __init__(self, beyond: float, speed: float = 1.0) -> None:
        self.now, self.widths = 0.0, []
        self._beyond, self._speed = beyond, speed

    def seconds(self, n: int, width: int) -> float:
        each = 3e-6 * width + 1e-8 * width**2 + self._beyond * max(0, width**2 - 512**2)
        return self._speed * (1e-4 + n * each)

    def measure(self, n: int, width: int) -> float:
        self.now += self.seconds(n, width)
        self.widths.append(width)
        return self.seconds(n, width)


@pytest.mark.parametrize(("max_length", "longer"), [(512, []), (600, [600]), (4096, [1024, 2048, 4096])])
def test_probes_grow_to_the_models_length(monkeypatch: pytest.MonkeyPatch, max_length: int, longer: list[int]):
    machine = LongMachine(beyond=3e-8)
    monkeypatch.setattr("tandem.engine.scheduling.cost_model.time.perf_counter", lambda: machine.now)
    cost = learn(machine.measure, max_length)
    assert [width for width in machine.widths if width > 512] == longer
    for width in (100, 512, 513, 1000, 3000, 8192):
        if width <= 512 or longer:
            assert cost.seconds(1, width) == pytest.approx(machine.seconds(1, width), rel=1e-6)
            assert width <= 512 or cost.each(np.array([width]))[0] == pytest.approx(machine.seconds(1, width), rel=1e-6)


@pytest.mark.parametrize("speed", [1.0, 3.0, 30.0])
def test_probes_stop_growing_when_their_time_is_up(monkeypatch: pytest.MonkeyPatch, speed: float):
    """What is measured then foretells the rest: a pair of 8,192 tokens takes seconds, not milliseconds."""
    machine = LongMachine(beyond=3e-8, speed=speed)
    monkeypatch.setattr("tandem.engine.scheduling.cost_model.time.perf_counter", lambda: machine.now)
    cost = learn(machine.measure, 8192)
    longest = max(machine.widths)
    assert longest < 8192
    short = sum(2 * machine.seconds(n, width) for n, width in PROBES)
    # One probe may take as much longer than predicted as `beyond` was not known yet.
    assert machine.now < max(LONG_SECONDS, short) + 4 * LONG_SECONDS
    if longest > 512:
        # Where the machine is so slow that five short probes had to do, 512 tokens were not among them.
        exact = 1e-6 if 512 in machine.widths else 0.2
        assert cost.seconds(1, 8192) == pytest.approx(machine.seconds(1, 8192), rel=exact)
        assert cost.fitting(np.full(4, 8192), 0.24) == 0


def test_the_early_exit_shares_what_long_sequences_take():
    cost = CostModel(call=0.0, token=1e-6, square=1e-9, tokens=512, beyond=1e-8, reach=512)
    assert cost.share(0.25).seconds(2, 4000) == pytest.approx(0.25 * cost.seconds(2, 4000))
    assert cost.seconds(1, 512) == pytest.approx(1e-6 * 512 + 1e-9 * 512**2)
    assert cost.seconds(1, 1024) == pytest.approx(1e-6 * 1024 + 1e-9 * 1024**2 + 1e-8 * (1024**2 - 512**2))


def test_what_long_sequences_really_take_is_learnt():
    cost = CostModel(call=0.0, token=1e-6, square=1e-9, tokens=512, beyond=1e-8, reach=512)
    slower = 2 * cost.seconds(1, 8000)
    for _ in range(60):
        cost.observe(np.array([8000]), slower)
    assert cost.seconds(1, 8000) == pytest.approx(slower, rel=0.01)
