from __future__ import annotations

import numpy as np
import pytest

from tandem.engine.scheduling.cost_model import PROBES, CostModel, exit_saves, learn


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
