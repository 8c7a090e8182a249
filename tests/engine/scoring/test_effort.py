"""How much is read: what each effort stands for, and how many candidates are enough where that was fitted."""

from __future__ import annotations

import numpy as np
import pytest

from tandem.engine.scoring.effort import ENOUGH, EVERYTHING, RerankDepth, depth_of
from tandem.engine.scoring.fit import COUNTS, LITTLE, Domain, enough_of, mean_ndcg


def test_each_effort_reads_more_than_the_one_before():
    counts = [depth_of(effort).of(100) for effort in ("quick", "balanced", "thorough")]
    assert counts == sorted(set(counts))
    assert counts[-1] == 100
    assert depth_of("balanced").of(7) == 7
    assert RerankDepth(None, None, 0) == EVERYTHING


def test_what_was_fitted_is_what_a_balanced_search_reads_and_changes_no_other():
    assert depth_of("balanced").reranked == ENOUGH
    assert depth_of("balanced", 60).reranked == 60
    assert [depth_of(effort, 60) for effort in ("quick", "thorough")] == [
        depth_of(effort) for effort in ("quick", "thorough")
    ]


def domain(place: int, candidates: int = 100, questions: int = 40) -> Domain:
    """The evidence puts the one answer at `place`, 0 is the first; the cross-encoder knows it."""
    rng = np.random.default_rng(place)
    logits, evidence, gains = [], [], []
    for _ in range(questions):
        order = rng.permutation(candidates)
        known = np.empty(candidates)
        known[order] = -np.arange(candidates) / candidates
        gain = np.zeros(candidates)
        gain[order[place]] = 1.0
        logits.append(rng.normal(size=candidates) + 100.0 * gain)
        evidence.append(known)
        gains.append(gain)
    return Domain(logits, evidence, evidence, gains)


@pytest.mark.parametrize(("place", "enough"), [(0, 20), (19, 20), (20, 30), (45, 60), (99, 100)])
def test_as_many_are_enough_as_hold_the_answers(place: int, enough: int):
    assert enough_of([domain(place, 101)], 1.0) == enough


def test_every_domain_has_the_same_say_and_little_is_given_up():
    few, many = domain(3, questions=400), domain(70, questions=5)
    assert enough_of([few, many], 1.0) == 80
    found = enough_of([few, many], 1.0)
    for count in COUNTS:
        lost = np.mean([each.ndcg(1.0) - mean_ndcg(each.read_first(count, 1.0), each.gains) for each in (few, many)])
        assert (lost <= LITTLE) == (count >= found)


def test_lists_that_are_no_longer_say_nothing():
    assert enough_of([domain(3, candidates=15)], 1.0) is None
    assert enough_of([domain(19, candidates=20)], 1.0) is None
    assert enough_of([domain(3, candidates=21)], 1.0) == 20


def test_reading_a_few_leaves_the_others_behind():
    one = Domain([np.array([5.0, 1.0, 9.0])], [np.zeros(3)], [np.array([0.1, 0.3, 0.2])], [np.ones(3)])
    assert one.read_first(2, 10.0)[0].tolist() == [-np.inf, 4.0, 11.0]
