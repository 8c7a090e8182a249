"""The measures of agreement, and the gate made of them."""

from __future__ import annotations

import numpy as np
import pytest

from tandem.export.parity.compare import compare, failures, kendall_tau, overlap, spread


@pytest.fixture
def reference():
    return np.random.default_rng(0).normal(size=(20, 50)).astype(np.float32)


def slow_tau(a, b):
    """Tau-b by its definition, pair by pair."""
    concordant = discordant = ties_a = ties_b = 0
    for i in range(len(a)):
        for j in range(i):
            product = np.sign(a[i] - a[j]) * np.sign(b[i] - b[j])
            concordant += product > 0
            discordant += product < 0
            ties_a += a[i] == a[j]
            ties_b += b[i] == b[j]
    pairs = len(a) * (len(a) - 1) / 2
    return (concordant - discordant) / np.sqrt((pairs - ties_a) * (pairs - ties_b))


@pytest.mark.parametrize("values", [5, 1000])
def test_kendall_tau_is_its_definition(values):
    rng = np.random.default_rng(values)
    a, b = rng.integers(0, values, size=(2, 30)).astype(np.float32)
    assert kendall_tau(a, b) == pytest.approx(slow_tau(a, b))


def test_kendall_tau_at_its_ends():
    up = np.arange(5, dtype=np.float32)
    assert kendall_tau(up, up) == 1.0
    assert kendall_tau(up, -up) == -1.0
    assert kendall_tau(up, np.zeros(5, dtype=np.float32)) == 0.0
    assert kendall_tau(np.zeros(5, dtype=np.float32), np.ones(5, dtype=np.float32)) == 1.0


def test_overlap_counts_the_ten_best():
    scores = np.arange(20, dtype=np.float32)
    moved = scores.copy()
    moved[19] = -1
    assert overlap(scores, scores) == 1.0
    assert overlap(scores, moved) == 0.9
    assert overlap(scores, -scores) == 0.0


def test_compare_measures_errors(reference):
    moved = reference.copy()
    moved[0, 0] += 0.5
    parity = compare(reference, moved)
    assert parity.samples == 1000
    assert parity.max_error == pytest.approx(0.5)
    assert parity.mean_error == pytest.approx(0.5 / 1000)


@pytest.mark.parametrize(("precision", "noise"), [("fp32", 1e-5), ("fp16", 3e-3), ("int8", 0.05)])
def test_a_little_noise_passes_and_twenty_times_as_much_fails(reference, precision, noise):
    error = np.random.default_rng(1).normal(size=reference.shape).astype(np.float32) * noise
    assert failures(precision, reference, reference + error) == []
    assert failures(precision, reference, reference + 20 * error)


def test_limits_are_relative_to_the_spread_of_the_scores(reference):
    small = reference * 1e-4
    error = np.random.default_rng(1).normal(size=reference.shape).astype(np.float32)
    assert spread(small) == pytest.approx(1e-4 * spread(reference), rel=1e-3)
    assert failures("fp32", small, small + 1e-9 * error) == []
    assert "max error" in failures("fp32", small, small + 1e-6 * error)[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_number_that_is_not_finite_fails(reference, bad):
    broken = reference.copy()
    broken[3, 4] = bad
    assert failures("int8", reference, broken) == ["1 of 1000 scores are not finite"]


def test_a_constant_shift_keeps_the_order_but_not_the_score(reference):
    assert failures("int8", reference, reference + 0.5) == [f"mean error 0.5 > {0.2 * spread(reference):.2g}"]
