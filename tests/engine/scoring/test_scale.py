"""One scale: expected logits against least squares and known truths, relevance against a search of the likelihood."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine.scoring.fusion import Fusion
from tandem.engine.scoring.scale import (
    FINAL_HITS,
    ExpectedLogit,
    ReadQuestions,
    Relevance,
    Scale,
    calibration_error,
    final_hits,
    fit_scale,
)


def judged(questions: int = 300, seed: int = 0, slope: float = 1.0) -> ReadQuestions:
    """Logits are 8 · evidence - 2 and noise; the exit sees half of that noise; relevance follows the final score."""
    rng = np.random.default_rng(seed)
    logits, evidence, gains, exits = [], [], [], []
    for _ in range(questions):
        known, noise = rng.uniform(0, 1, 30), rng.normal(scale=2.0, size=30)
        logit = 8.0 * known - 2.0 + noise
        evidence.append(known)
        logits.append(logit)
        exits.append(0.5 * (logit - 1.0) + rng.normal(scale=0.1, size=30))
        likely = 1.0 / (1.0 + np.exp(-slope * (logit + 4.0 * known - 9.0)))
        gains.append((rng.uniform(size=30) < likely).astype(float))
    return ReadQuestions(logits, evidence, gains, {3: exits})


def test_the_expected_logits_are_the_lines_that_made_them():
    scale = fit_scale([judged()], recall_weight=4.0)
    assert (scale.unread.offset, scale.unread.evidence) == (pytest.approx(-2, abs=0.1), pytest.approx(8, abs=0.2))
    line = scale.exits[3]
    assert (line.offset, line.logit) == (pytest.approx(1, abs=0.1), pytest.approx(2, abs=0.05))
    assert 0 <= line.evidence < 0.2


def test_the_relevance_is_the_curve_that_made_it_and_promises_what_holds_elsewhere():
    scale = fit_scale([judged()], recall_weight=4.0)
    assert scale.relevance.slope == pytest.approx(1.0, abs=0.1)
    assert scale.relevance.offset == pytest.approx(-9.0, abs=1.0)
    scores, relevant = final_hits(judged(seed=1), 4.0)
    assert calibration_error(scale.relevance.of(scores), relevant) < 0.03
    assert len(scores) == 300 * FINAL_HITS
    other = fit_scale([judged(slope=0.2)], recall_weight=4.0).relevance
    assert calibration_error(other.of(scores), relevant) > 0.05, "a wrong curve is told from a right one"


def test_no_other_curve_is_likelier():
    domain = judged(40)
    found = fit_scale([domain], recall_weight=4.0).relevance
    scores, relevant = final_hits(domain, 4.0)

    def likelihood(offset: float, slope: float) -> float:
        likely = Relevance(offset=offset, slope=slope).of(scores)
        return float(np.mean(np.log(np.where(relevant > 0, likely, 1 - likely))))

    best = likelihood(found.offset, found.slope)
    rng = np.random.default_rng(0)
    for _ in range(300):
        shift, stretch = rng.normal(scale=(0.5, 0.1))
        slope = found.slope * float(np.exp(stretch))
        centre = scores.mean()
        assert likelihood(found.offset + shift + (found.slope - slope) * centre, slope) <= best + 1e-3


def test_each_domain_has_the_same_say_whatever_its_size():
    small, large = judged(20, slope=0.3), judged(200, seed=1, slope=2.0)
    one = fit_scale([small, large], 4.0)
    parts = [list(part) * 5 for part in (small.logits, small.evidence, small.gains, small.exits[3])]
    many = fit_scale([ReadQuestions(*parts[:3], {3: parts[3]}), large], 4.0)
    assert one.unread.evidence == pytest.approx(many.unread.evidence)
    assert one.relevance.slope == pytest.approx(many.relevance.slope, rel=0.05)


def test_an_exit_that_only_some_domains_have_has_no_line():
    bare = judged(10)
    assert fit_scale([judged(10), ReadQuestions(bare.logits, bare.evidence, bare.gains, {})], 4.0).exits == {}


@pytest.mark.parametrize("gain", [0.0, 1.0])
def test_all_relevant_or_none_gives_a_finite_curve(gain: float):
    domain = judged(5)
    curve = fit_scale([ReadQuestions(domain.logits, domain.evidence, [np.full(30, gain)] * 5, {})], 4.0).relevance
    likely = curve.of(np.array([-50.0, 0.0, 50.0]))
    assert np.isfinite([curve.offset, curve.slope]).all()
    assert (likely > 0.9).all() if gain else (likely < 0.1).all()


def test_scores_that_say_nothing_give_everyone_the_same_relevance():
    domain = judged(50)
    upside_down = [np.where(final < np.sort(final)[-5], 1.0, 0.0) for final in domain.logits]
    curve = fit_scale([ReadQuestions(domain.logits, domain.evidence, upside_down, {})], 0.0).relevance
    assert curve.slope == 0.0
    assert curve.of(np.array([-5.0, 5.0])).tolist() == [curve.of(np.array([0.0]))[0]] * 2


def test_evidence_that_counts_against_a_passage_is_left_out():
    domain = judged(50)
    scale = fit_scale([ReadQuestions(domain.logits, [-each for each in domain.evidence], domain.gains, {})], 0.0)
    assert scale.unread.evidence == 0.0
    assert scale.unread.offset == pytest.approx(float(np.mean(np.concatenate(domain.logits))), abs=1e-6)


@given(st.floats(-1e3, 1e3), st.floats(0, 1e3), st.lists(st.floats(-1e4, 1e4), min_size=2))
def test_relevance_is_a_probability_that_rises_with_the_score(offset: float, slope: float, scores: list[float]):
    likely = Relevance(offset=offset, slope=slope).of(np.array(sorted(scores)))
    assert ((likely >= 0) & (likely <= 1)).all()
    assert (np.diff(likely) >= 0).all()


def test_the_calibration_error_is_the_mean_gap_of_ten_equal_bins():
    rng = np.random.default_rng(0)
    promised = np.sort(rng.uniform(size=1000))
    relevant = (rng.uniform(size=1000) < promised**2).astype(float)
    gaps = [abs(promised[at : at + 100].mean() - relevant[at : at + 100].mean()) for at in range(0, 1000, 100)]
    assert calibration_error(promised, relevant) == pytest.approx(np.mean(gaps))
    assert calibration_error(np.array([]), np.array([])) == 0.0


def test_a_scale_survives_its_file():
    scale = fit_scale([judged(10)], 4.0)
    fusion = Fusion(recall_weight=4.0, scale=scale)
    assert Fusion.model_validate_json(fusion.model_dump_json()) == fusion
    assert Scale().after_exit(3, np.float32([1.0]), np.float32([9.0])).tolist() == [1.0], "nothing fitted: as it is"
    line = ExpectedLogit(offset=1.0, logit=2.0, evidence=3.0)
    assert Scale(exits={3: line}).after_exit(3, np.float32([1.0]), np.float32([1.0])).tolist() == [6.0]
