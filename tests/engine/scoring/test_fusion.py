"""The fit of the fusion weight, against exhaustive search and cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from tandem.engine.errors import InputError
from tandem.engine.scoring.fit import LEXICAL_WEIGHTS, WEIGHTS, Domain, fit_fusion, fit_over, mean_ndcg
from tandem.engine.scoring.fusion import LEXICAL_WEIGHT, Fusion

Arrays = list[np.ndarray]


def domain(questions: int, logit_noise: float, recall_noise: float, seed: int = 0) -> Domain:
    """Logits and cosines that both point at the one relevant of 20 candidates, through noise."""
    rng = np.random.default_rng(seed)
    logits, recall, gains = [], [], []
    for _ in range(questions):
        gain = np.zeros(20)
        gain[rng.integers(20)] = 1.0
        logits.append(5.0 * gain + rng.normal(scale=logit_noise, size=20))
        recall.append(0.2 * gain + rng.normal(scale=recall_noise, size=20))
        gains.append(gain)
    return Domain(logits, recall, recall, gains)


def slow_ndcg(scores: Arrays, gains: Arrays) -> float:
    total = 0.0
    for score, gain in zip(scores, gains, strict=True):
        ranked = sorted(range(len(score)), key=lambda row: (-score[row], row))
        dcg = sum(gain[row] / np.log2(place + 2) for place, row in enumerate(ranked[:10]))
        best = sum(value / np.log2(place + 2) for place, value in enumerate(sorted(gain, reverse=True)[:10]))
        total += dcg / best if best else 0.0
    return total / len(scores)


@pytest.mark.parametrize("candidates", [1, 7, 10, 30])
def test_ndcg_equals_the_formula(candidates: int) -> None:
    rng = np.random.default_rng(candidates)
    scores = [rng.integers(0, 5, candidates).astype(float) for _ in range(20)]
    gains = [rng.integers(0, 3, candidates).astype(float) for _ in range(20)]
    assert mean_ndcg(scores, gains) == pytest.approx(slow_ndcg(scores, gains))


def test_both_beat_either_where_both_know_something() -> None:
    d = domain(400, logit_noise=3.0, recall_noise=0.1)
    fitted = fit_over([d])
    best = max(d.ndcg(weight) for weight in WEIGHTS)
    assert d.ndcg(fitted.recall_weight) > max(d.ndcg(0.0), d.recall_ndcg) + 0.02
    assert d.ndcg(fitted.recall_weight) >= best - 0.005
    # Two Gaussian witnesses: the best weight is (signal / variance) of recall over that of the logit.
    assert fitted.recall_weight == pytest.approx((0.2 / 0.1**2) / (5.0 / 3.0**2), rel=0.8)


def test_useless_recall_gets_little_weight_and_a_useless_reranker_leaves_recall_standing() -> None:
    d = domain(300, logit_noise=1.0, recall_noise=100.0)
    assert d.ndcg(fit_over([d]).recall_weight) >= d.ndcg(0.0) - 0.005
    d = domain(300, logit_noise=1000.0, recall_noise=0.02)
    assert fit_over([d]).recall_weight == pytest.approx(max(WEIGHTS), rel=0.7)


def test_a_domain_where_the_reranker_harms_raises_the_weight() -> None:
    good = domain(300, logit_noise=1.5, recall_noise=0.3)
    bad = domain(300, logit_noise=12.0, recall_noise=0.06, seed=1)
    alone = fit_over([good]).recall_weight
    both = fit_over([good, bad]).recall_weight
    assert both > alone
    assert bad.ndcg(both) > bad.ndcg(alone)
    assert bad.ndcg(both) >= bad.recall_ndcg - 0.01


def test_caution_takes_the_largest_weight_that_costs_no_more_than_it_may() -> None:
    d = domain(400, logit_noise=3.0, recall_noise=0.1)
    best, careful = fit_over([d]), fit_over([d], caution=0.02)
    assert careful.recall_weight > best.recall_weight
    assert d.ndcg(careful.recall_weight) >= d.ndcg(best.recall_weight) - 0.03
    heavier = [weight for weight in WEIGHTS if weight > 2 * careful.recall_weight]
    assert all(d.ndcg(weight) < d.ndcg(best.recall_weight) - 0.01 for weight in heavier)


def test_domains_count_the_same_however_large() -> None:
    small, large = domain(50, 1.5, 0.3), domain(50, 12.0, 0.06, seed=1)
    repeated = Domain(*(list(part) * 20 for part in (large.logits, large.recall_scores, large.evidence, large.gains)))
    assert fit_over([small, large]).recall_weight == fit_over([small, repeated]).recall_weight


def test_the_lexical_weight_follows_what_the_words_are_worth() -> None:
    d = domain(300, logit_noise=5.0, recall_noise=1.0)
    rng = np.random.default_rng(3)
    telling = [gain + rng.normal(scale=0.6, size=20) for gain in d.gains]
    noise = [rng.normal(scale=5.0, size=20) for _ in d.gains]
    assert fit_fusion(d.logits, d.recall_scores, telling, d.gains).lexical_weight == max(LEXICAL_WEIGHTS)
    assert fit_fusion(d.logits, d.recall_scores, noise, d.gains).lexical_weight == 0.0
    silent = [np.zeros(20) for _ in d.gains]
    assert fit_fusion(d.logits, d.recall_scores, silent, d.gains).lexical_weight == LEXICAL_WEIGHT


def test_no_relevant_candidate_is_refused() -> None:
    with pytest.raises(InputError, match="relevant candidate"):
        fit_fusion([np.ones(3)], [np.ones(3)], [np.ones(3)], [np.zeros(3)])
    with pytest.raises(InputError, match="relevant candidate"):
        fit_fusion([], [], [], [])


def test_weight_zero_is_the_pure_reranker_order() -> None:
    logits = np.array([0.1, 2.0, -1.0], dtype=np.float32)
    recall = np.array([0.9, 0.1, 0.5], dtype=np.float32)
    assert Fusion().fuse(logits, recall).tolist() == logits.tolist()
    fused = Fusion(recall_weight=10.0).fuse(logits, recall)
    assert fused.dtype == np.float32
    assert fused.tolist() == pytest.approx([9.1, 3.0, 4.0])
