"""Several indexes as one: what they find is what one over all vectors finds, whatever is deleted or filtered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tandem.engine.errors import InputError
from tandem.engine.platform.npy import ArrayWriter
from tandem.engine.recall import Index, Part, Plan, RowMask, SegmentedIndex, build, exact, plan
from tandem.engine.recall.index import VECTORS
from tandem.engine.recall.segments import Filtered

DIMENSION = 16


def unit(random: np.random.Generator, count: int) -> np.ndarray:
    vectors = random.standard_normal((count, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def opened(folder: Path, vectors: np.ndarray, kind: str) -> Index:
    folder.mkdir()
    writer = ArrayWriter(folder / VECTORS, np.float32, (DIMENSION,))
    writer.append(vectors)
    writer.close()
    built = build(folder, Plan(kind=kind, reason="a test", lists=4 if kind == "ivf" else 0), vectors[:20],
                  progress=lambda *_: None)  # fmt: skip
    return Index.open(folder, built, threads=1)


class World:
    """Four segments of several kinds, a share of their passages deleted."""

    def __init__(self, folder: Path, kinds: tuple[str, ...], deleted: float, seed: int = 3) -> None:
        random = np.random.default_rng(seed)
        self.queries = unit(random, 7)
        sizes = [300, 40, 120, 1][: len(kinds)]
        parts, vectors, live = [], [], []
        for number, (size, kind) in enumerate(zip(sizes, kinds, strict=True)):
            vectors.append(unit(random, size))
            live.append(random.random(size) >= deleted)
            marked = None if live[-1].all() else RowMask(live[-1])
            parts.append(Part(opened(folder / str(number), vectors[-1], kind), marked))
        self.vectors, self.live = np.concatenate(vectors), np.concatenate(live)
        self.index = SegmentedIndex(parts, DIMENSION)

    def nearest(self, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        rows = np.flatnonzero(self.live if allowed is None else self.live & allowed)
        scores, found = exact.search(self.vectors[rows], self.queries, k)
        return scores, rows[found]


@pytest.mark.parametrize("deleted", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("kinds", [("flat",), ("scan",), ("flat", "flat"), ("ivf", "scan", "flat", "flat")])
def test_the_nearest_of_all_segments(tmp_path: Path, kinds: tuple[str, ...], deleted: float) -> None:
    world = World(tmp_path, kinds, deleted)
    assert world.index.count == world.live.sum()
    np.testing.assert_array_equal(world.index.vectors, world.vectors)
    for k in (1, 10, 1000):
        scores, rows = world.index.search(world.queries, k)
        right, nearest = world.nearest(k)
        if "ivf" in kinds and k != 1000:
            shared = np.mean([len(set(some) & set(all_)) / len(all_) for some, all_ in zip(rows, nearest, strict=True)])
            assert shared > 0.9
        else:
            np.testing.assert_array_equal(rows, nearest)
            np.testing.assert_allclose(scores, right, atol=1e-6)
        assert world.live[rows].all()
        one_by_one = [world.index.search(query[None], k)[1][0] for query in world.queries]
        np.testing.assert_array_equal(np.stack(one_by_one), rows)


@pytest.mark.parametrize("share", [0.9, 0.1, 0.0])
def test_filters_go_through_all_segments(tmp_path: Path, share: float) -> None:
    world = World(tmp_path, ("ivf", "scan", "flat", "flat"), 0.2)
    allowed = np.random.default_rng(9).random(len(world.live)) < share
    under = Filtered(world.index, RowMask(allowed & world.live))
    for k in (5, 1000):
        scores, rows = under.search(world.queries, k)
        right, nearest = world.nearest(k, allowed)
        np.testing.assert_array_equal(rows, nearest)
        np.testing.assert_allclose(scores, right, atol=1e-6)


@pytest.mark.parametrize("kind", ["flat", "scan", "ivf"])
def test_what_is_nearest_may_all_be_deleted(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole topic is: more is asked for, and in the end what is left is searched alone."""
    monkeypatch.setattr("tandem.engine.recall.segments.MOST", 64)
    monkeypatch.setattr("tandem.engine.recall.segments.SPARE", 2)
    vectors = unit(np.random.default_rng(1), 400)
    order = np.argsort(-(vectors @ vectors[0]))
    for gone in (10, 350):
        live = np.ones(400, dtype=bool)
        live[order[:gone]] = False
        folder = tmp_path / str(gone)
        index = SegmentedIndex([Part(opened(folder, vectors, kind), RowMask(live))], DIMENSION)
        _, rows = index.search(vectors[:1], 5)
        assert len(rows[0]) == 5
        assert live[rows].all()
        if kind != "ivf" or gone == 350:
            np.testing.assert_array_equal(rows[0], order[gone : gone + 5])


def test_ties_go_to_the_row_that_came_first(tmp_path: Path) -> None:
    vector = unit(np.random.default_rng(2), 1)
    parts = [Part(opened(tmp_path / str(n), np.repeat(vector, 3, axis=0), "flat")) for n in range(3)]
    _, rows = SegmentedIndex(parts, DIMENSION).search(vector, 7)
    assert rows.tolist() == [[0, 1, 2, 3, 4, 5, 6]]


def test_no_segment_has_no_passage() -> None:
    empty = SegmentedIndex([], DIMENSION)
    scores, rows = empty.search(unit(np.random.default_rng(0), 2), 5)
    assert (scores.shape, rows.shape, len(empty), empty.count) == ((2, 0), (2, 0), 0, 0)
    with pytest.raises(InputError, match="dimension"):
        empty.search(np.ones((1, 3), np.float32), 5)


@pytest.mark.parametrize(
    ("rows", "beside", "kind"),
    [
        (10_000, 0, "flat"),
        (100_000, 0, "scan"),
        (1_000_000, 0, "ivf"),
        (10_000, 100_000, "scan"),
        (10_000, 1_000_000, "ivf"),
        (1000, 1_000_000, "flat"),
    ],
)
def test_a_segment_is_planned_for_what_is_beside_it(rows: int, beside: int, kind: str) -> None:
    """Seven segments of 13,000 compared one by one would take seven milliseconds beside a million."""
    assert plan(rows, 384, beside).kind == kind
