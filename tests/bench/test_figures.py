"""The small parts that figures rest on, each against an obvious oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tandem.bench.latency import SAME_PRECISION, TO_EXIT, _summaries
from tandem.bench.recall.synthetic_vectors import NEAR, NEAREST, spread_around
from tandem.bench.stats import ratios, shown, spread


def test_ratios_are_question_by_question():
    assert ratios([2.0, 40.0, 6.0], [1.0, 10.0, 2.0])["p50"] == 3.0


def test_a_median_shows_its_quartiles():
    assert shown(spread([1.0, 2.0, 3.0])) == "2.00 (1.50–2.50)"


def test_vectors_lie_around_real_ones(tmp_path: Path):
    random = np.random.default_rng(0)
    real = random.standard_normal((50, 32)).astype(np.float32)
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    made = np.array(spread_around(real, 2000, tmp_path / "a", seed=3))
    assert made.shape == (2000, 32)
    assert np.array_equal(made[:50], real)
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    assert np.array_equal(made, spread_around(real, 2000, tmp_path / "b", seed=3))
    assert not np.array_equal(made, spread_around(real, 2000, tmp_path / "c", seed=4))
    # Every one is as near to some real one as it was turned; in 32 dimensions another may be nearer still.
    nearest = (made[50:] @ real.T).max(axis=1)
    assert nearest.min() >= NEAR - 1e-5
    assert NEAR < np.median(nearest) < NEAREST


def test_a_rival_is_compared_with_its_own_precision_too():
    taken = {
        "tandem": {"rerank": [10.0, 20.0]},
        "tandem, early exit": {"rerank": [5.0, 10.0]},
        "tandem fp32": {"rerank": [40.0, 80.0]},
        "onnxruntime": {"rerank": [80.0, 160.0]},
        "onnxruntime int8": {"rerank": [30.0, 60.0]},
    }
    _, compared = _summaries(taken, [])
    medians = {name: {stage: each["p50"] for stage, each in stages.items()} for name, stages in compared.items()}
    assert medians == {
        "tandem, early exit": {"rerank": 0.5},
        "tandem fp32": {"rerank": 4.0},
        "onnxruntime": {"rerank": 8.0, TO_EXIT: 16.0, SAME_PRECISION: 2.0},
        "onnxruntime int8": {"rerank": 3.0, TO_EXIT: 6.0, SAME_PRECISION: 3.0},
    }
