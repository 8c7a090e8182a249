"""What an oracle takes for wrong."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from .judging import LOGIT_ATOL, hits_judged, judge_largest, missing, unit


def test_a_row_that_is_far_or_missing_is_wrong():
    vectors = unit(np.random.default_rng(0), 50, 8)
    best = np.argsort(-(vectors[:2] @ vectors.T), axis=1)
    assert missing(vectors, vectors[:2], best[:, :10]) == 0.0
    assert missing(vectors, vectors[:2], np.where(best[:, :10] == best[:, [9]], best[:, [-1]], best[:, :10])) == 0.1
    assert missing(vectors, vectors[:2], np.where(best[:, :10] == best[:, [9]], -1, best[:, :10])) == 0.1


def hits(rows: list[int], scores: list[float], cosines: list[float]) -> Any:
    return SimpleNamespace(
        rows=np.array(rows), places=np.argsort(np.argsort(-np.array(cosines))), scores=np.array(scores),
        cosines=np.array(cosines),
    )  # fmt: skip


def test_a_hit_is_judged_by_the_oracles_score():
    scores = [9.0, 8, 7, 6, 5, 4, 3, 2, 1, 0.5, 0.49, -3.0]
    oracle = hits(list(range(12)), scores, np.linspace(0.9, 0.6, 12).tolist())
    same = SimpleNamespace(rows=np.arange(10))
    swapped = SimpleNamespace(rows=np.array([*range(9), 10]))  # a tie within half precision
    wrong = SimpleNamespace(rows=np.array([*range(9), 11]))
    twice = SimpleNamespace(rows=np.array([*range(9), 8]))
    assert hits_judged(same, oracle, 12)[:2] == pytest.approx((0.0, 1.0))
    assert hits_judged(swapped, oracle, 12)[:2] == pytest.approx((0.0, 0.9))
    assert hits_judged(wrong, oracle, 12)[:2] == pytest.approx((0.1, 0.9))
    assert hits_judged(twice, oracle, 12)[0] == pytest.approx(0.1)
    assert hits_judged(None, oracle, 12)[0] == 1.0
    # With fewer candidates the last two were not recalled; a hit among them is wrong however well it is scored.
    assert hits_judged(swapped, oracle, 10)[0] == pytest.approx(0.1)


def test_a_result_that_is_not_finite_fails_and_is_recorded():
    told: dict[str, Any] = {}
    with pytest.raises(AssertionError, match="inf largest difference"):
        judge_largest(told.__setitem__, np.array([1.0, np.nan]), np.array([1.0, 2.0]))
    assert (told["found"], told["allowed"], told["scale"]) == (float("inf"), LOGIT_ATOL, 2.0)
