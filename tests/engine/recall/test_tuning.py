"""How many clusters are read: by a sample that stays beside the index, on CPU indexes behind the GPU's face."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import numpy as np
import pytest

from tandem.engine.errors import CollectionError
from tandem.engine.recall import Plan, building, exact, int8_codes, tuning
from tandem.engine.recall.gpu_faiss import MAX_K, STORED, GpuFaiss
from tandem.engine.recall.gpu_planning import GpuPlan
from tandem.engine.recall.index import VECTORS
from tandem.engine.recall.neighbour_sample import QUERIES, TRUTH, NeighbourSample
from tandem.engine.recall.planning import TARGET_RECALL
from tandem.engine.recall.tuning import recall, tune

from ..pretended import faiss_on_cpu

LISTS = 128


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def silent(done: int, total: int | None, what: str) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6,000 vectors without clusters, so that many must be read, with their scan and sample."""
    folder = tmp_path_factory.mktemp("index")
    random = np.random.default_rng(5)
    np.save(folder / VECTORS, unit(random.standard_normal((6000, 16))))
    building.build(folder, Plan(kind="scan", reason="a test"), unit(random.standard_normal((40, 16))), progress=silent)
    return folder


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    faiss_on_cpu(monkeypatch)


def planned(kind: str = "ivf-flat", code_bytes: int = 0) -> GpuPlan:
    return GpuPlan(kind=kind, reason="a test", nbytes=10**9, lists=LISTS, code_bytes=code_bytes)  # type: ignore[arg-type]


class Curve:
    """An index of 5,000 clusters whose recall at so many probes is given; capped as FAISS is on a GPU."""

    lists = 5000

    def __init__(self, curve: dict[int, float], probes: int) -> None:
        self._curve = curve
        self._probes = probes

    @property
    def probes(self) -> int:
        return self._probes

    @probes.setter
    def probes(self, probes: int) -> None:
        self._probes = min(probes, MAX_K)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        reached = max((share for least, share in self._curve.items() if least <= self.probes), default=0.0)
        rows = np.tile(np.arange(k), (len(queries), 1))
        rows[:, round(reached * k) :] = -1
        return np.zeros(rows.shape, dtype=np.float32), rows


SAMPLE = NeighbourSample(np.zeros((1, 1), dtype=np.float32), np.arange(1000)[None])


@pytest.mark.parametrize(("needed", "chosen"), [(8, 8), (9, 12), (100, 135)])
def test_the_fewest_probes_that_reach_the_target_are_chosen(needed: int, chosen: int):
    index = Curve({1: 0.9, needed: TARGET_RECALL}, 8)
    assert tune(index, SAMPLE) == TARGET_RECALL
    assert index.probes == chosen


@pytest.mark.parametrize(("curve", "chosen"), [({1: 0.5, 100: 0.93, 1500: 0.9305}, 135), ({1: 0.5, 2048: 0.9}, 2048)])
def test_a_target_out_of_reach_is_warned_of_and_the_best_is_used(
    curve: dict[int, float], chosen: int, caplog: pytest.LogCaptureFixture
):
    index = Curve(curve, 8)
    reached = tune(index, SAMPLE)
    assert index.probes == chosen
    assert reached == max(share for least, share in curve.items() if least <= chosen)
    assert f"at {chosen} probes, below the {TARGET_RECALL}" in caplog.text


def test_built_and_stored_indexes_alike_are_tuned_when_they_are_opened(
    on_cpu: None, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    for name in (VECTORS, QUERIES, TRUTH):
        (tmp_path / name).symlink_to(folder / name)
    vectors = np.load(folder / VECTORS)
    built = GpuFaiss.open(tmp_path, vectors, planned(), probes=1)
    int8_codes.write(built._index, tmp_path / STORED)
    sample = NeighbourSample.open(folder, vectors)
    assert sample is not None
    for index in (built, GpuFaiss.open(tmp_path, vectors, planned(), probes=1)):
        assert 8 < index.probes < LISTS
        reached = recall(index.search(sample.queries, 100)[1], sample.truth)
        assert reached >= TARGET_RECALL
        assert index.recall == f"recall@100 {reached:.3f} at {index.probes} probes"
        index.probes = int(index.probes / 1.5)
        assert recall(index.search(sample.queries, 100)[1], sample.truth) < TARGET_RECALL
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_thread_that_opens_does_not_own_it(on_cpu: None, folder: Path, tmp_path: Path):
    vectors = np.load(folder / VECTORS)
    index = GpuFaiss.open(folder, vectors, planned(), probes=1)
    found: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: found.append(index.search(vectors[:1], 1)[1]))
    thread.start()
    thread.join()
    assert found[0].tolist() == [[0]]


def test_codes_with_a_ceiling_are_reported_as_they_are(on_cpu: None, folder: Path, caplog: pytest.LogCaptureFixture):
    index = GpuFaiss.open(folder, np.load(folder / VECTORS), planned("ivf-pq", 4), probes=1)
    assert "below the 0.998 aimed at" in caplog.text
    assert 0.3 < float(index.recall.split()[1]) < TARGET_RECALL


def test_a_collection_of_old_keeps_the_probes_it_was_given_and_says_so(on_cpu: None, folder: Path, tmp_path: Path):
    vectors = np.load(folder / VECTORS)
    index = GpuFaiss.open(tmp_path, vectors, planned(), probes=11)
    assert index.probes == 11
    assert index.recall == "recall not measured (the collection has no sample), 11 probes"


def test_a_damaged_sample_is_a_clear_error(on_cpu: None, folder: Path, tmp_path: Path):
    vectors = np.load(folder / VECTORS)
    queries, truth = np.load(folder / QUERIES), np.load(folder / TRUTH)
    assert queries.shape == (40, 16)
    np.testing.assert_array_equal(truth, exact.search(vectors, queries, 100)[1])
    wrong = {
        TRUTH: [truth[:-1], truth[:, :-1], truth + 6000, truth - 6000],
        QUERIES: [queries[:, :-1], queries[:0], np.full_like(queries, np.nan)],
    }
    for name, arrays in wrong.items():
        for array in arrays:
            np.save(tmp_path / QUERIES, queries)
            np.save(tmp_path / TRUTH, truth)
            np.save(tmp_path / name, array)
            with pytest.raises(CollectionError, match=rf"{name} holds no .*; index again"):
                GpuFaiss.open(tmp_path, vectors, planned(), probes=1)
        (tmp_path / name).write_bytes(b"\x93NUMPY, and no more")
        with pytest.raises(CollectionError, match=rf"{name} cannot be read as an array .*; index again"):
            NeighbourSample.open(tmp_path, vectors)
        (tmp_path / name).unlink()
        with pytest.raises(CollectionError, match=rf"{name} cannot be read as an array .*; index again"):
            NeighbourSample.open(tmp_path, vectors)


def test_an_index_on_the_cpu_is_tuned_by_the_sample_that_it_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    random = np.random.default_rng(6)
    np.save(tmp_path / VECTORS, unit(random.standard_normal((6000, 16))))
    tuned: list[NeighbourSample] = []
    monkeypatch.setattr(building, "tune", lambda index, sample: tuned.append(sample) or tuning.tune(index, sample))
    queries = unit(random.standard_normal((40, 16)))
    done = building.build(tmp_path, Plan(kind="ivf", reason="a test", lists=64), queries, progress=silent)
    assert 4 < done.probes < 64
    assert done.recall_at_100 >= TARGET_RECALL
    kept = NeighbourSample.open(tmp_path, np.load(tmp_path / VECTORS))
    assert kept is not None
    np.testing.assert_array_equal(kept.queries, tuned[0].queries)
    np.testing.assert_array_equal(kept.truth, tuned[0].truth)
