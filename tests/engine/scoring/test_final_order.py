from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine.scoring.fusion import Fusion, Ranking, Scored, rank
from tandem.engine.scoring.scale import ExpectedLogit, Scale

logit = st.one_of(st.just(float("nan")), st.floats(-20, 20, width=32))


def ranked(evidence: np.ndarray, logits: np.ndarray, fusion: Fusion) -> Ranking:
    return rank(evidence, Scored.of(logits), fusion)


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
    ranking = rank(fusion.evidence(recall, lexical), Scored.of(logits), fusion)
    assert ranking.places.tolist() == [1, 0]
    np.testing.assert_allclose(ranking.scores, [1.9, 2.2], rtol=1e-6)


def test_without_a_fit_what_was_not_read_has_the_lowest_logit_that_was():
    ranking = ranked(np.float32([0.9, 0.8, 0.7]), np.float32([np.nan, np.nan, -50.0]), Fusion(recall_weight=1.0))
    assert ranking.places.tolist() == [0, 1, 2]
    np.testing.assert_allclose(ranking.scores, [-49.1, -49.2, -49.3], rtol=1e-6)
    assert np.isnan(ranking.logits[[0, 1]]).all()


def test_a_bad_passage_that_was_read_falls_behind_a_promising_one_that_was_not():
    fusion = Fusion(recall_weight=1.0, scale=Scale(unread=ExpectedLogit(offset=-2.0, evidence=4.0)))
    recall, logits = np.float32([0.9, 0.8, 0.7, 0.1]), np.float32([3.0, -9.0, np.nan, np.nan])
    ranking = ranked(recall, logits, fusion)
    assert ranking.places.tolist() == [0, 2, 3, 1]
    np.testing.assert_allclose(ranking.scores, [3.9, -8.2, 1.5, -1.5], rtol=1e-6)


def test_where_nothing_was_read_the_order_is_the_evidences():
    evidence, nothing = np.float32([0.9, 1.8]), Scored.nothing(2)
    plain = rank(evidence, nothing, Fusion(recall_weight=1.0))
    assert (plain.places.tolist(), plain.scores.tolist()) == ([1, 0], evidence.tolist())
    fitted = Fusion(recall_weight=1.0, scale=Scale(unread=ExpectedLogit(offset=-3.0, evidence=1.0)))
    ranking = rank(evidence, nothing, fitted)
    assert ranking.places.tolist() == [1, 0]
    np.testing.assert_allclose(ranking.scores, [-1.2, 0.6], rtol=1e-5)


@given(
    st.lists(st.tuples(st.floats(-1, 1, width=32), logit, logit), max_size=50),
    st.floats(0, 10),
    st.one_of(st.none(), st.builds(ExpectedLogit, offset=st.floats(-5, 5), evidence=st.floats(0, 5))),
)
def test_every_candidate_has_one_place_and_scores_fall(
    candidates: list[tuple[float, float, float]], weight: float, unread: ExpectedLogit | None
):
    candidates = sorted(candidates, key=lambda each: -each[0])
    recall, logits, early = (np.array([each[part] for each in candidates], dtype=np.float32) for part in range(3))
    fusion = Fusion(recall_weight=weight, scale=Scale(unread=unread))
    ranking = rank(recall, Scored.of(logits, early), fusion)
    assert sorted(ranking.places.tolist()) == list(range(len(candidates)))
    scores = ranking.scores[ranking.places]
    assert (np.diff(scores) <= 0).all()
    ties = np.diff(scores) == 0
    assert (np.diff(ranking.places)[ties] > 0).all()
    whole = np.isfinite(logits)
    np.testing.assert_allclose(ranking.scores[whole], fusion.fuse(logits, recall)[whole])


def test_an_exits_logit_counts_where_no_other_is_known():
    recall, nan = np.float32([0.9, 0.8, 0.7, 0.6]), np.nan
    logits, early = np.float32([nan, -5.0, nan, 1.0]), np.float32([3.0, 9.0, 2.0, nan])
    fitted = Fusion(recall_weight=1.0, scale=Scale(exits={2: ExpectedLogit(offset=0.0, logit=1.0, evidence=0.0)}))
    ranking = rank(recall, Scored.of(logits, early), fitted)
    assert ranking.places.tolist() == [0, 2, 3, 1]
    np.testing.assert_array_equal(ranking.logits, np.float32([3.0, -5.0, 2.0, 1.0]))


def test_without_a_fit_an_exits_logits_stand_behind_those_of_all_layers_in_their_own_order():
    recall, nan = np.float32([0.9, 0.8, 0.7, 0.6]), np.nan
    logits, early = np.float32([nan, -5.0, nan, 1.0]), np.float32([2.0, 9.0, 3.0, nan])
    ranking = rank(recall, Scored.of(logits, early), Fusion(recall_weight=1.0))
    assert ranking.places.tolist() == [3, 1, 2, 0]
    assert (np.diff(ranking.scores[ranking.places]) <= 0).all()
    np.testing.assert_array_equal(ranking.logits, np.float32([2.0, -5.0, 3.0, 1.0]))
