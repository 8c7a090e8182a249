"""Exact search against float64 and a full sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.engine.errors import InputError
from tandem.engine.recall import Index, exact


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def oracle(vectors: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    products = np.einsum("ij,kj->ik", queries.astype(np.float64), vectors.astype(np.float64)).astype(np.float32)
    order = np.argsort(-products, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(products, order, axis=1), order


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), n=st.integers(1, 3000), d=st.sampled_from([3, 16, 65]), m=st.integers(1, 6),
    k=st.integers(1, 120), distinct=st.integers(1, 3000),
)  # fmt: skip
def test_equals_a_full_sort_with_ties_by_row(seed: int, n: int, d: int, m: int, k: int, distinct: int) -> None:
    random = np.random.default_rng(seed)
    vectors = unit(random.standard_normal((distinct, d)))[random.integers(0, distinct, n)]
    queries = unit(random.standard_normal((m, d)))
    scores, rows = Index(vectors).search(queries, k)
    expected_scores, expected_rows = oracle(vectors, queries, k)
    assert (scores.dtype, rows.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)


def test_more_rows_than_a_block_and_more_queries_than_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "BLOCK", 100)
    monkeypatch.setattr(exact, "QUERIES", 7)
    random = np.random.default_rng(1)
    vectors, queries = unit(random.standard_normal((1001, 8))), unit(random.standard_normal((15, 8)))
    scores, rows = exact.search(vectors, queries, 30)
    expected_scores, expected_rows = oracle(vectors, queries, 30)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)


def test_one_by_one_is_the_same_as_together() -> None:
    random = np.random.default_rng(2)
    vectors, queries = unit(random.standard_normal((5000, 64))), unit(random.standard_normal((9, 64)))
    index = Index(vectors)
    together = index.search(queries, 20)
    for place, query in enumerate(queries):
        scores, rows = index.search(query[None], 20)
        np.testing.assert_array_equal(rows[0], together[1][place])
        np.testing.assert_array_equal(scores[0], together[0][place])


def test_nothing_but_the_same_vector() -> None:
    vectors = np.tile(unit(np.ones((1, 8))), (20_000, 1))
    _, rows = Index(vectors).search(vectors[:1], 5)
    assert rows[0].tolist() == [0, 1, 2, 3, 4]


def test_queries_that_do_not_fit() -> None:
    index = Index(unit(np.ones((3, 4))))
    with pytest.raises(InputError, match="dimension 4"):
        index.search(np.ones((1, 5), dtype=np.float32), 1)
    with pytest.raises(InputError, match="not finite"):
        index.search(np.full((1, 4), np.nan, dtype=np.float32), 1)
    with pytest.raises(InputError, match="at least 1"):
        index.search(np.ones((1, 4), dtype=np.float32), 0)
    scores, rows = index.search(np.empty((0, 4), dtype=np.float32), 2)
    assert scores.shape == rows.shape == (0, 2)
