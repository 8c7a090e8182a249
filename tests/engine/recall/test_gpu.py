"""Recall on a GPU: the plan everywhere, FAISS's indexes as CPU indexes behind the same face."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from tandem.engine.build import indexing
from tandem.engine.errors import CollectionError, DeviceError, InputError
from tandem.engine.platform import cuda_driver
from tandem.engine.recall import RowMask, exact, int8_codes
from tandem.engine.recall.gpu_faiss import MAX_K, STORED, GpuFaiss, _set_probes, _stored, build
from tandem.engine.recall.gpu_planning import GpuPlan, inverted_plan, plan_gpu

faiss = pytest.importorskip("faiss", reason="FAISS is not installed")
GB = 10**9


@pytest.mark.parametrize(
    ("rows", "dimension", "room", "kind"),
    [
        (1_000_000, 384, 60 * GB, "scan"),
        (10_000_000, 384, 60 * GB, "scan"),
        (50_000_000, 384, 60 * GB, "ivf-flat"),  # 38 GB: it fits, but comparing all takes too long
        (50_000_000, 384, 10 * GB, "ivf-pq"),
        (1_000_000, 384, 400_000_000, "ivf-pq"),
    ],
)
def test_the_form_follows_size_and_memory(rows: int, dimension: int, room: int, kind: str):
    plan = plan_gpu(rows, dimension, room, kernels=True, faiss=True)
    assert isinstance(plan, GpuPlan)
    assert plan.kind == kind
    assert plan.nbytes + plan.scratch <= room
    assert bool(plan.lists) == kind.startswith("ivf")


def test_faiss_compares_all_where_our_scan_cannot_run():
    assert plan_gpu(1000, 384, None, kernels=False, faiss=True).kind == "flat"  # type: ignore[union-attr]


def test_codes_divide_the_dimension_and_shrink_until_they_fit():
    sizes = [plan_gpu(10_000_000, 384, room, kernels=True, faiss=True) for room in (710_000_000, 510_000_000)]
    assert [plan.code_bytes for plan in sizes if isinstance(plan, GpuPlan)] == [32, 12]
    assert all(384 % plan.code_bytes == 0 for plan in sizes if isinstance(plan, GpuPlan))


def test_what_does_not_fit_says_how_much_is_missing():
    assert "GiB are left" in str(plan_gpu(10**9, 768, GB, kernels=True, faiss=True))
    assert "GiB at least (scan)" in str(plan_gpu(10**7, 768, GB, kernels=True, faiss=False))
    assert "neither" in str(plan_gpu(10, 8, GB, kernels=False, faiss=False))


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    random = np.random.default_rng(0)
    made = random.normal(size=(3000, 32)) + 2 * random.normal(size=(20, 32))[random.integers(0, 20, 3000)]
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def on_cpu(vectors: np.ndarray, kind: str, code_bytes: int = 0) -> GpuFaiss:
    plan = GpuPlan(kind=kind, reason="a test", nbytes=0, lists=16, code_bytes=code_bytes)  # type: ignore[arg-type]
    index = build(vectors, plan, on_gpu=False)
    _set_probes(index, 16)
    return GpuFaiss(index, vectors, plan)


@pytest.mark.parametrize(("kind", "code_bytes", "least"), [("ivf-flat", 0, 0.999), ("ivf-pq", 16, 0.9)])
def test_built_indexes_find_what_exact_search_finds(vectors: np.ndarray, kind: str, code_bytes: int, least: float):
    """All clusters are read, so what is missing is the codes' doing: half precision, or 16 bytes of 128 refined."""
    index = on_cpu(vectors, kind, code_bytes)
    scores, rows = index.search(vectors[:50], 20)
    true_scores, truth = exact.search(vectors, vectors[:50], 20)
    shared = np.mean([len(np.intersect1d(a, b)) / 20 for a, b in zip(rows, truth, strict=True)])
    assert shared >= least
    assert (np.diff(scores, axis=1) <= 0).all()
    np.testing.assert_allclose(scores[:, 0], true_scores[:, 0], atol=2e-3)


def test_codes_are_refined_to_exact_cosines(vectors: np.ndarray):
    scores, rows = on_cpu(vectors, "ivf-pq", 16).search(vectors[:5], 7)
    np.testing.assert_allclose(scores, np.einsum("qkd,qd->qk", vectors[rows], vectors[:5]), atol=1e-6)


def test_stored_and_read_again_it_answers_the_same(vectors: np.ndarray, tmp_path: Path):
    for kind, code_bytes in (("ivf-flat", 0), ("ivf-pq", 16)):
        built = on_cpu(vectors, kind, code_bytes)
        int8_codes.write(built._index, tmp_path / STORED)
        again = _stored(tmp_path / STORED, vectors, roomy(built.plan))
        assert again is not None
        _set_probes(again[0], 16)
        opened = GpuFaiss(again[0], vectors, again[1])
        np.testing.assert_array_equal(opened.search(vectors[:9], 5)[1], built.search(vectors[:9], 5)[1])


def roomy(plan: GpuPlan) -> GpuPlan:
    """`plan` on a card with room for it."""
    return plan.model_copy(update={"nbytes": GB})


def test_a_file_that_was_planned_for_another_card_is_used_if_it_fits(
    vectors: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Indexing leaves half of the card to models; opening knows what they take, so the plans may differ."""
    small = on_cpu(vectors, "ivf-pq", 16)
    int8_codes.write(small._index, tmp_path / STORED)
    larger = GpuPlan(kind="ivf-flat", reason="a test", nbytes=GB, lists=32)
    found = _stored(tmp_path / STORED, vectors, larger)
    assert found is not None
    assert (found[1].kind, found[1].lists, found[1].code_bytes) == ("ivf-pq", 16, 16)
    assert found[1].nbytes == plan_bytes("ivf-pq", 16)
    assert "index again for better recall" in caplog.text
    assert _stored(tmp_path / STORED, vectors, roomy(larger).model_copy(update={"nbytes": 1000})) is None
    assert "too large here" in caplog.text
    with pytest.raises(CollectionError, match="index again"):
        _stored(tmp_path / STORED, vectors[:-1], larger)
    assert _stored(tmp_path / "none", vectors, larger) is None


def plan_bytes(kind: str, code_bytes: int) -> int:
    return inverted_plan(kind, 3000, 32, lists=16, code_bytes=code_bytes, reason="").nbytes  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "code_bytes"), [("ivf-flat", 0), ("ivf-pq", 16)])
def test_between_tensors_it_answers_the_same(vectors: np.ndarray, kind: str, code_bytes: int):
    index = on_cpu(vectors, kind, code_bytes)
    index._index.nprobe = 1  # some queries find fewer than were asked for
    scores, rows = index.search(vectors[:9], 400)
    near, found = index.nearest(torch.from_numpy(vectors[:18])[::2].contiguous(), 400)
    expected = index.search(np.ascontiguousarray(vectors[:18:2]), 400)
    np.testing.assert_array_equal(found.numpy(), expected[1])
    np.testing.assert_array_equal(near.numpy(), expected[0])
    assert (rows < 0).any()
    assert np.isneginf(scores[rows < 0]).all()


def test_searching_between_tensors_leaves_the_hosts_searches_as_they_were(vectors: np.ndarray):
    """FAISS's own bridge to PyTorch replaces every index's `search` by one without search parameters."""
    on_cpu(vectors, "ivf-flat").nearest(torch.from_numpy(vectors[:2]), 5)
    assert "faiss.contrib.torch_utils" not in sys.modules
    plain = faiss.IndexFlatIP(32)
    plain.add(vectors)
    mask = np.arange(len(vectors)) % 2 == 0
    _, rows = plain.search(vectors[:2], 5, params=RowMask(mask).parameters())
    assert (rows % 2 == 0).all()


def test_what_faiss_gets_silently_wrong_is_refused(vectors: np.ndarray):
    index = on_cpu(vectors, "ivf-flat")
    with pytest.raises(InputError, match="ignores filters"):
        index.search(vectors[:1], 5, allowed=np.ones(len(vectors), dtype=bool))
    with pytest.raises(InputError, match=f"1 to {MAX_K}"):
        index.search(vectors[:1], MAX_K + 1)
    with pytest.raises(InputError, match="not finite"):
        index.search(np.full((1, 32), np.nan, dtype=np.float32), 5)
    with pytest.raises(InputError, match="do not fit"):
        index.search(vectors[:1, :8], 5)
    index.search(vectors[:1], 5)
    caught: list[BaseException] = []

    def from_elsewhere() -> None:
        try:
            index.search(vectors[:1], 5)
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=from_elsewhere)
    thread.start()
    thread.join()
    assert "second thread" in str(caught[0])


def test_few_lists_read_give_fewer_rows_and_say_so(vectors: np.ndarray):
    index = on_cpu(vectors, "ivf-flat")
    index._index.nprobe = 1
    scores, rows = index.search(vectors[:3], 2048)
    assert (rows < 0).any()
    assert np.isneginf(scores[rows < 0]).all()


def test_a_faiss_that_cannot_be_imported_is_a_reason_and_no_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert "FAISS cannot be imported" in str(cuda_driver.faiss_problem())


def test_without_a_gpu_faiss_is_never_asked(vectors: np.ndarray, tmp_path: Path):
    """Its GPU functions would end this process."""
    if cuda_driver.faiss_problem() is None:
        pytest.skip("there is a GPU")
    plan = GpuPlan(kind="flat", reason="a test", nbytes=0)
    with pytest.raises(DeviceError, match="cannot search on a GPU"):
        GpuFaiss.open(tmp_path, vectors, plan, probes=8)


@pytest.mark.parametrize("wanted", ["ivf-flat", "scan"])
def test_indexing_on_a_gpu_stores_an_inverted_file_and_nothing_else(
    vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str
):
    """The plan and the GPU are pretended; the index is built by the same function, on the CPU."""
    plan = GpuPlan(kind=wanted, reason="a test", nbytes=0, lists=16)  # type: ignore[arg-type]
    monkeypatch.setattr(indexing, "plan_gpu", lambda *arguments, **settings: plan)
    monkeypatch.setattr(indexing.gpu_faiss, "build", lambda rows, plan, on_gpu: build(rows, plan, on_gpu=False))
    np.save(tmp_path / "vectors.npy", vectors)
    indexing._store_for_gpu(tmp_path, lambda done, total, what: None)
    assert (tmp_path / STORED).is_file() == (wanted == "ivf-flat")
    if wanted == "ivf-flat":
        assert _stored(tmp_path / STORED, vectors, roomy(plan)) is not None


@pytest.mark.gpu
@pytest.mark.parametrize(("kind", "code_bytes"), [("flat", 0), ("ivf-flat", 0), ("ivf-pq", 16)])
def test_on_a_gpu_it_finds_what_exact_search_finds(vectors: np.ndarray, tmp_path: Path, kind: str, code_bytes: int):
    if (problem := cuda_driver.faiss_problem()) is not None:
        pytest.skip(problem)
    plan = GpuPlan(kind=kind, reason="a test", nbytes=0, lists=16, code_bytes=code_bytes)  # type: ignore[arg-type]
    index = GpuFaiss.open(tmp_path, vectors, plan, probes=16)
    _, rows = index.search(vectors[:50], 20)
    _, truth = exact.search(vectors, vectors[:50], 20)
    assert np.mean([len(np.intersect1d(a, b)) / 20 for a, b in zip(rows, truth, strict=True)]) >= 0.9
