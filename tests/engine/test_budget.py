from __future__ import annotations

import numpy as np
import pytest

from tandem.engine.budget import PROBES, CostModel, learn


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
