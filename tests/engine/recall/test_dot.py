"""Vectors that are not of length 1, compared by their inner product: every index finds what a float64 product finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine.recall import Index, IndexPlan, Plan, RowMask, build, exact
from tandem.engine.recall.index import VECTORS
from tandem.engine.recall.int8_codes import Coding, ceilings, coded, coded_queries, largest_magnitude, residuals
from tandem.engine.recall.tuning import recall
from tandem.engine.recall.vector_lengths import VectorLengths

PLANS = {
    "flat": Plan(kind="flat", reason="to be tested"),
    "scan": Plan(kind="scan", reason="to be tested"),
    "ivf": Plan(kind="ivf", reason="to be tested", lists=64),
}


def silent(done: int, total: int | None, what: str) -> None:
    pass


def of_all_lengths(n: int, random: np.random.Generator, spread: float) -> np.ndarray:
    """float32 [n, 32]: clustered directions; lengths 8 and, with a larger `spread`, a few times more or less."""
    centres = np.random.default_rng(5).standard_normal((40, 32))
    rows = centres[random.integers(0, 40, n)] + 0.7 * random.standard_normal((n, 32))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return (8 * np.exp(spread * random.standard_normal((n, 1))) * rows).astype(np.float32)


def truth_of(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """int64 [m, k]: rows by the float64 products, rounded as scores are told, ties by row."""
    products = (queries.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
    return np.argsort(-products, axis=1, kind="stable")[:, :k]


@pytest.fixture(scope="module", params=[0.05, 0.5], ids=["alike", "spread"])
def world(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    """20,000 vectors and 300 queries: lengths as of a trained model (a twentieth around the mean), or very unlike."""
    random = np.random.default_rng(3)
    return of_all_lengths(20_000, random, request.param), of_all_lengths(300, random, request.param)


def opened(folder: Path, vectors: np.ndarray, queries: np.ndarray, kind: str) -> tuple[Index, IndexPlan]:
    np.save(folder / VECTORS, vectors)
    plan = build(folder, PLANS[kind], queries, similarity="dot", progress=silent)
    return Index.open(folder, plan), plan


@pytest.mark.parametrize("kind", ["flat", "scan"])
def test_exact_indexes_find_the_largest_products(tmp_path: Path, world: tuple[np.ndarray, np.ndarray], kind: str):
    vectors, queries = world
    index, plan = opened(tmp_path, vectors, queries[:0], kind)
    scores, rows = index.search(queries[:40], 50)
    expected = truth_of(vectors, queries[:40], 50)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(queries[:40] @ vectors.T, expected, 1), rtol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()
    for place, query in enumerate(queries[:10]):  # one query goes another way than many
        np.testing.assert_array_equal(index.search(query[None], 50)[1][0], rows[place])
    assert plan.similarity == "dot"
    assert plan.longest == pytest.approx(float(np.linalg.norm(vectors, axis=1).max()))
    assert plan.scale == pytest.approx(float((vectors.astype(np.float64) ** 2).sum(1).mean()))


def test_an_inverted_file_finds_as_much_as_of_unit_vectors(tmp_path: Path, world: tuple[np.ndarray, np.ndarray]):
    vectors, queries = world
    index, plan = opened(tmp_path, vectors, queries[:150], "ivf")
    assert plan.recall_at_100 >= 0.99
    assert plan.probes < 64
    assert recall(index.search(queries[150:], 100)[1], truth_of(vectors, queries[150:], 100)) >= 0.98


@pytest.mark.parametrize("kind", PLANS)
def test_filters(tmp_path: Path, world: tuple[np.ndarray, np.ndarray], kind: str):
    vectors, queries = world
    index, _ = opened(tmp_path, vectors, queries[:150], kind)
    mask = np.random.default_rng(1).random(len(vectors)) < 0.3
    rows = np.flatnonzero(mask)
    _, found = index.search(queries[150:170], 50, RowMask(mask))
    np.testing.assert_array_equal(found, rows[truth_of(vectors[rows], queries[150:170], 50)])


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.integers(0, 9))
def test_the_ceiling_is_one_at_every_scale(of_vectors: float, of_queries: float, seed: int):
    """No vector left out by its code has a larger product than the ceiling, and none is far below it."""
    random = np.random.default_rng(seed)
    vectors = (of_vectors * of_all_lengths(400, random, 0.5)).astype(np.float32)
    queries = (of_queries * of_all_lengths(5, random, 0.5)).astype(np.float32)
    largest = largest_magnitude(vectors)
    codes = coded(vectors, largest)
    stored = Coding(largest, float(residuals(vectors, codes, largest).max()), VectorLengths.of(vectors).longest)
    asked, own = coded_queries(queries)
    products = asked @ codes.T
    last = np.sort(products, axis=1)[:, -40].astype(np.float32)
    bounds = ceilings(queries, asked, own, last, stored)
    exact_products = queries.astype(np.float64) @ vectors.astype(np.float64).T
    left_out = np.where(products <= last[:, None], exact_products, -np.inf)
    assert (left_out.max(axis=1) <= bounds).all()
    longest = stored.longest * np.linalg.norm(queries, axis=1)
    assert (bounds - left_out.max(axis=1) <= 0.15 * longest).all()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_near_ties_are_told_apart_at_every_scale(scale: float):
    """Rounding of float32 grows with the vectors, and so must what is scored exactly."""
    random = np.random.default_rng(2)
    centre = random.standard_normal((1, 64))
    vectors = (scale * (centre + 3e-7 * random.standard_normal((5000, 64)))).astype(np.float32)
    queries = np.repeat(scale * centre, 3, axis=0).astype(np.float32)
    longest = VectorLengths.of(vectors).longest
    for asked in (queries[:1], queries):
        _, rows = exact.search(vectors, asked, 30, longest)
        np.testing.assert_array_equal(rows, truth_of(vectors, asked, 30))


def test_lengths_of_several_blocks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tandem.engine.recall.vector_lengths.BLOCK", 7)
    vectors = np.arange(60, dtype=np.float32).reshape(20, 3)
    lengths = VectorLengths.of(vectors)
    assert lengths.longest == pytest.approx(float(np.linalg.norm(vectors[-1])))
    assert lengths.square == pytest.approx(float((vectors**2).sum(1).mean()))
