"""Both lists of recall as one, against sorting everything there is."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine.recall import Index, Part, SegmentedIndex
from tandem.engine.recall.nearest import Neighbours
from tandem.engine.scoring.fusion import Fusion
from tandem.engine.search.union import shares_of, unite, words_of


def near_of(vectors: np.ndarray, query: np.ndarray, count: int) -> Neighbours:
    scores = vectors.astype(np.float64) @ query
    rows = np.argsort(-scores, kind="stable")[:count]
    return Neighbours(rows, scores[rows].astype(np.float32), query, 0.001, 0.002)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(0, 12), st.sampled_from([0.0, 0.4, 3.0]))
def test_the_candidates_are_the_best_of_both_by_evidence(seed: int, count: int, listed: int, weight: float):
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(20, 4)).astype(np.float32)
    query = random.normal(size=4).astype(np.float32)
    near = near_of(vectors, query, count)
    rows, shares = random.permutation(20)[:listed], -np.sort(-random.random(listed, np.float32))
    fusion = Fusion(lexical_weight=weight, recall_scale=2.0)
    found = unite(near, (rows, shares), SegmentedIndex([Part(Index(vectors))], 4), fusion, count)
    both = np.union1d(near.rows, rows)
    words = {row: share for row, share in zip(rows.tolist(), shares, strict=True)}
    evidence = {row: vectors[row] @ query / 2.0 + weight * words.get(row, 0.0) for row in both.tolist()}
    best = sorted(evidence.values(), reverse=True)[:count]
    np.testing.assert_allclose([evidence[row] for row in found.rows.tolist()], best, atol=1e-5)
    np.testing.assert_allclose(found.scores, vectors[found.rows] @ query, atol=1e-5)
    assert found.words is not None
    assert found.words.tolist() == [words.get(row, 0.0) for row in found.rows.tolist()]
    assert len(set(found.rows.tolist())) == len(found.rows)


def test_without_words_the_order_is_that_of_the_vectors():
    vectors, query = np.eye(3, dtype=np.float32), np.float32([0.1, 0.9, 0.5])
    found = unite(near_of(vectors, query, 2), None, SegmentedIndex([Part(Index(vectors))], 3), Fusion(), 2)
    assert (found.rows.tolist(), found.words) == ([1, 2], None)
    assert (found.encode_seconds, found.search_seconds) == (0.001, 0.002)


@pytest.mark.parametrize(("found", "expected"), [([], [0, 0]), ([5], [0, 0.5]), ([9, 5, 2], [0.25, 0.75])])
def test_shares_are_looked_up_by_row(found: list[int], expected: list[float]):
    shares = {0: np.float32([]), 1: np.float32([0.5]), 3: np.float32([1.0, 0.75, 0.25])}[len(found)]
    assert shares_of(np.array([2, 5]), np.array(found, dtype=np.int64), shares).tolist() == expected


@pytest.mark.parametrize(
    ("language", "unstored", "used", "said"),
    [
        (None, None, False, "by vectors alone"),
        ("english", "another tokenizer's", True, "english"),
        ("other", None, True, "other"),
        ("other", "another tokenizer's", False, "another reranker: another tokenizer's"),
    ],
)
def test_token_ids_are_words_for_the_reranker_they_are_of(
    language: str | None, unstored: str | None, used: bool, said: str
):
    """What a search with another reranker would look up are other ids."""
    index = None if language is None else SimpleNamespace(language=language)
    words, why = words_of(SimpleNamespace(lexical=index), unstored)  # type: ignore[arg-type]
    assert (words is not None) == used
    assert said in why
