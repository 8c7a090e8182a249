"""The approximate index against exact search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tandem.engine.errors import CollectionError
from tandem.engine.recall import Index, IndexPlan, Plan, build, exact, plan
from tandem.engine.recall.index import INVERTED, VECTORS
from tandem.engine.recall.tuning import recall


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered(n: int, random: np.random.Generator) -> np.ndarray:
    centres = random.standard_normal((40, 32))
    return unit(centres[random.integers(0, 40, n)] + 0.7 * random.standard_normal((n, 32)))


def silent(done: int, total: int | None, what: str) -> None:
    pass


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, IndexPlan, np.ndarray]:
    """20,000 clustered vectors, indexed; and queries that the index was not tuned on."""
    folder = tmp_path_factory.mktemp("index")
    random = np.random.default_rng(3)
    np.save(folder / VECTORS, clustered(20_000, random))
    queries = clustered(300, random)
    done = build(folder, Plan(kind="ivf", reason="to be tested", lists=64), queries[:150], progress=silent)
    return folder, done, queries[150:]


def test_recall_is_as_measured_on_queries_it_has_not_seen(built: tuple[Path, IndexPlan, np.ndarray]) -> None:
    folder, done, queries = built
    assert done.recall_at_100 >= 0.99
    assert 1 <= done.probes < 64
    index = Index.open(folder, done)
    scores, found = index.search(queries, 100)
    exact_scores, truth = exact.search(index.vectors, queries, 100)
    assert recall(found, truth) >= 0.99
    np.testing.assert_array_equal(scores[:, 0], exact_scores[:, 0])
    assert (np.diff(scores, axis=1) <= 0).all()


def test_scores_are_exact_and_do_not_depend_on_the_batch(built: tuple[Path, IndexPlan, np.ndarray]) -> None:
    folder, done, queries = built
    index = Index.open(folder, done)
    _, rows = index.search(queries, 10)
    for place, query in enumerate(queries[:20]):
        one_scores, one_rows = index.search(query[None], 10)
        np.testing.assert_array_equal(one_rows[0], rows[place])
        expected = (index.vectors[rows[place]].astype(np.float64) @ query.astype(np.float64)).astype(np.float32)
        np.testing.assert_allclose(one_scores[0], expected, rtol=1e-6)


def test_more_is_asked_for_than_the_clusters_read_hold(built: tuple[Path, IndexPlan, np.ndarray]) -> None:
    folder, done, queries = built
    index = Index.open(folder, done.model_copy(update={"probes": 1}))
    _, rows = index.search(queries[:3], 2000)
    assert rows.shape == (3, 2000)
    assert all(len(set(row)) == 2000 for row in rows.tolist())


def test_recall_that_is_bad_is_measured_as_bad(built: tuple[Path, IndexPlan, np.ndarray]) -> None:
    folder, done, queries = built
    index = Index.open(folder, done.model_copy(update={"probes": 1}))
    _, truth = exact.search(index.vectors, queries, 100)
    assert recall(index.search(queries, 100)[1], truth) < 0.95


def test_files_that_do_not_belong_together(built: tuple[Path, IndexPlan, np.ndarray], tmp_path: Path) -> None:
    folder, done, _ = built
    vectors = np.load(folder / VECTORS)
    np.save(tmp_path / VECTORS, vectors[:-1])
    (tmp_path / INVERTED).write_bytes((folder / INVERTED).read_bytes())
    with pytest.raises(CollectionError, match="codes of shape"):
        Index.open(tmp_path, done)
    (tmp_path / INVERTED).write_bytes(b"IwFl" + bytes(40))
    with pytest.raises(CollectionError, match="cannot be read"):
        Index.open(tmp_path, done)


def test_the_plan_goes_by_size_and_says_why() -> None:
    small, middle, large = plan(10_000, 384), plan(100_000, 384), plan(1_000_000, 384)
    assert (small.kind, middle.kind, large.kind, large.lists) == ("flat", "scan", "ivf", 2048)
    assert "exact" in middle.reason
    assert "1536 MB" in large.reason
