"""Our scan as an index, on CPU tensors: with and without a filter, against exact search on the host."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tandem.engine.errors import InputError
from tandem.engine.gpu_search.device_index import DeviceIndex
from tandem.engine.recall import RowMask, exact
from tandem.engine.search.two_stage import RecallStage


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    made = np.random.default_rng(3).normal(size=(1003, 16))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def index(vectors: np.ndarray) -> DeviceIndex:
    return DeviceIndex(torch.from_numpy(vectors))


@pytest.mark.parametrize("k", [1, 10, 300, 5000])
def test_finds_what_exact_search_finds(index: DeviceIndex, vectors: np.ndarray, k: int):
    # more queries than one run of the kernel takes, and at last more neighbours
    scores, rows = index.search(vectors[:70], k)
    expected, _ = exact.search(vectors, vectors[:70], min(k, len(vectors)))
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    np.testing.assert_allclose(np.einsum("qkd,qd->qk", vectors[rows], vectors[:70]), scores, atol=1e-6)
    assert all(len(set(row)) == len(row) for row in rows.tolist())


@pytest.mark.parametrize("share", [0.5, 0.01, 0.0])
def test_under_a_filter_only_what_it_allows(index: DeviceIndex, vectors: np.ndarray, share: float):
    mask = np.random.default_rng(0).random(len(vectors)) < share
    allowed = RowMask(mask)
    scores, rows = index.under(allowed).search(vectors[:5], 50)
    expected, truth = exact.search_among(vectors, vectors[:5], min(50, allowed.count), allowed.rows)
    np.testing.assert_array_equal(rows, truth)
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_words_are_the_kernels_bitmap(vectors: np.ndarray):
    from tandem.kernels.scan import bitmap

    for n in (1, 31, 32, 33, 1003):
        mask = np.random.default_rng(n).random(n) < 0.5
        np.testing.assert_array_equal(RowMask(mask).words, bitmap(torch.from_numpy(mask)).numpy())


def test_what_no_query_can_be_is_refused(index: DeviceIndex):
    with pytest.raises(InputError, match="not finite vectors of dimension 16"):
        index.search(np.full((1, 16), np.nan, dtype=np.float32), 3)
    with pytest.raises(InputError, match="not finite vectors of dimension 16"):
        index.search(np.ones((1, 8), dtype=np.float32), 3)


def test_rows_that_were_not_found_are_no_candidates(vectors: np.ndarray):
    class Encoder:
        cost = None

        def run(self, batch: object) -> list[np.ndarray]:
            return list(vectors[:2])

    class Sparse:
        def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
            return np.array([[0.9, -np.inf], [0.8, 0.7]], np.float32), np.array([[4, -1], [1, 2]])

    class Costly(RecallStage):
        def __init__(self) -> None:
            self._encoder, self._index, self._k = Encoder(), Sparse(), 2  # type: ignore[assignment]

    first, second = Costly().run(None)  # type: ignore[arg-type]
    assert first.rows.tolist() == [4]  # type: ignore[union-attr]
    assert first.scores.tolist() == [np.float32(0.9)]  # type: ignore[union-attr]
    assert second.rows.tolist() == [1, 2]  # type: ignore[union-attr]
