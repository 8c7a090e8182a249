from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine.scoring.fusion import Fusion, Ranking, Scored, rank

logit = st.one_of(st.just(float("nan")), st.floats(-20, 20, width=32))


def ranked(recall: np.ndarray, logits: np.ndarray, fusion: Fusion) -> Ranking:
    return rank(recall, recall, Scored.of(logits), fusion)


def test_pure_cross_encoder_order_breaks_ties_by_recall_rank():
    ranking = ranked(np.float32([0.9, 0.8, 0.7, 0.6]), np.float32([1.0, 3.0, 1.0, 3.0]), Fusion(recall_weight=0.0))
    assert ranking.places.tolist() == [1, 3, 0, 2]


def test_the_recall_score_counts_by_its_weight():
    recall, logits = np.float32([0.9, 0.1]), np.float32([1.0, 2.0])
    assert ranked(recall, logits, Fusion(recall_weight=1.0)).places.tolist() == [1, 0]
    assert ranked(recall, logits, Fusion(recall_weight=2.0)).places.tolist() == [0, 1]


def test_words_in_common_count_with_the_recall_score():
    fusion = Fusion(recall_weight=1.0, lexical_weight=0.5)
    recall, lexical, logits = np.float32([0.9, 0.8]), np.float32([0.0, 1.0]), np.float32([1.0, 0.9])
    ranking = rank(recall, fusion.evidence(recall, lexical), Scored.of(logits), fusion)
    assert ranking.places.tolist() == [1, 0]
    np.testing.assert_allclose(ranking.scores, [1.9, 2.2], rtol=1e-6)


def test_what_was_not_reranked_stands_behind_in_recall_order():
    ranking = ranked(np.float32([0.9, 0.8, 0.7]), np.float32([np.nan, np.nan, -50.0]), Fusion(recall_weight=1.0))
    assert ranking.places.tolist() == [2, 0, 1]
    assert ranking.scores[[0, 1]].tolist() == np.float32([0.9, 0.8]).tolist()


@given(st.lists(st.tuples(st.floats(-1, 1, width=32), logit), max_size=50), st.floats(0, 10))
def test_every_candidate_has_one_place(candidates: list[tuple[float, float]], weight: float):
    recall = np.array(sorted((score for score, _ in candidates), reverse=True), dtype=np.float32)
    logits = np.array([value for _, value in candidates], dtype=np.float32)
    ranking = ranked(recall, logits, Fusion(recall_weight=weight))
    assert sorted(ranking.places.tolist()) == list(range(len(candidates)))
    reranked = np.isfinite(logits)[ranking.places]
    assert not (reranked[1:] & ~reranked[:-1]).any()  # once one was not reranked, none behind it was
    scores = ranking.scores[ranking.places]
    assert (np.diff(scores[reranked]) <= 0).all()
    assert (np.diff(ranking.places[~reranked]) > 0).all()


def test_three_tiers_all_layers_then_the_early_exit_then_recalls_order():
    recall, nan = np.float32([0.9, 0.8, 0.7, 0.6, 0.5]), np.nan
    logits, early = np.float32([nan, nan, -50.0, nan, -40.0]), np.float32([nan, 1.0, 9.0, 2.0, nan])
    ranking = rank(recall, recall, Scored.of(logits, early), Fusion(recall_weight=1.0))
    assert ranking.places.tolist() == [4, 2, 3, 1, 0]
    np.testing.assert_allclose(ranking.scores, [0.9, 1.8, -49.3, 2.6, -39.5], rtol=1e-6)
    np.testing.assert_array_equal(ranking.logits, np.float32([nan, 1.0, -50.0, 2.0, -40.0]))


def test_what_was_read_again_stands_first_then_by_the_layers_that_read_it():
    recall = np.float32([0.9, 0.8, 0.7, 0.6, 0.5])
    logits = np.float32([5.0, 1.0, 2.0, np.nan, np.nan])
    early = np.float32([np.nan, np.nan, np.nan, np.nan, 9.0])
    again = np.array([False, True, True, False, False])
    ranking = rank(recall, recall, Scored.of(logits, early, again), Fusion(recall_weight=0.0))
    assert ranking.places.tolist() == [2, 1, 0, 4, 3]
