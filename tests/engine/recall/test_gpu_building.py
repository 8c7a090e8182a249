"""Building for a GPU, pretended: what fails there, and what it takes of the card."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest

from tandem.engine.build import indexing
from tandem.engine.errors import DeviceError, OutOfMemory
from tandem.engine.recall import gpu_faiss
from tandem.engine.recall.gpu_faiss import STORED
from tandem.engine.recall.gpu_planning import GpuKind, GpuPlan, inverted_plan


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    random = np.random.default_rng(0)
    made = random.normal(size=(3000, 32)) + 2 * random.normal(size=(20, 32))[random.integers(0, 20, 3000)]
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("StandardGpuResources: alloc fail … (cudaMalloc error out of memory [2])", OutOfMemory),
        ("CUDA error 700 an illegal memory access was encountered", DeviceError),
    ],
)
def test_a_card_that_fails_while_indexing_is_an_error_of_ours(
    vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, error: type[Exception]
):
    plan = GpuPlan(kind="ivf-flat", reason="a test", nbytes=0, lists=16)
    monkeypatch.setattr(indexing, "plan_gpu", lambda *arguments, **settings: plan)

    def fails(*arguments: object, **settings: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(indexing.gpu_faiss, "build", fails)
    np.save(tmp_path / "vectors.npy", vectors)
    with pytest.raises(error, match="training ivf-flat over 3000 vectors"):
        indexing._store_for_gpu(tmp_path, lambda done, total, what: None)
    assert not (tmp_path / STORED).exists()


@pytest.fixture
def uploaded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """FAISS's GPU functions, pretended: indexes stay where they are, and how much each held is noted."""
    held: list[int] = []

    def up(resources: object, device: int, index: Any, options: object = None) -> Any:
        held.append(index.ntotal)
        return index

    monkeypatch.setattr(gpu_faiss, "_resources", lambda: None)
    monkeypatch.setattr(faiss, "GpuClonerOptions", SimpleNamespace, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", up, raising=False)
    monkeypatch.setattr(faiss, "index_gpu_to_cpu", lambda index: index, raising=False)
    return held


@pytest.mark.parametrize(("kind", "code_bytes"), [("ivf-flat", 0), ("ivf-pq", 8)])
def test_lists_grow_on_the_host_and_are_what_faiss_itself_would_make(
    vectors: np.ndarray, uploaded: list[int], kind: GpuKind, code_bytes: int, monkeypatch: pytest.MonkeyPatch
):
    """In blocks of a thousand; the oracle is `add` of the same trained index."""
    monkeypatch.setattr(gpu_faiss, "BLOCK", 1000)
    plan = GpuPlan(kind=kind, reason="a test", nbytes=0, lists=16, code_bytes=code_bytes)
    index = gpu_faiss.build(vectors, plan, on_gpu=True)
    assert uploaded == [0, 16]  # the empty index, to be trained, and the centroids: no list is ever up while it grows
    oracle = faiss.clone_index(index)
    oracle.reset()
    oracle.add(vectors)
    assert index.ntotal == oracle.ntotal == len(vectors)
    for number in range(16):
        for part in ("ids", "codes"):
            ours, expected = (_list(each.invlists, number, part) for each in (index, oracle))
            np.testing.assert_array_equal(ours, expected)


def _list(lists: Any, number: int, part: str) -> np.ndarray:
    size = lists.list_size(number)
    if part == "ids":
        return faiss.rev_swig_ptr(lists.get_ids(number), size).copy()
    return faiss.rev_swig_ptr(lists.get_codes(number), size * lists.code_size).copy()


def test_groups_of_32_that_are_not_full_are_planned():
    """What the lists take on a card, each rounded up to 32 vectors, is the plan but for a hundredth."""
    rows, dimension, lists = 1_000_000, 384, 4096
    lengths = np.random.default_rng(0).multinomial(rows, np.random.default_rng(1).dirichlet(np.full(lists, 4.0)))
    taken = int((-(-lengths // 32) * 32).sum()) * 2 * dimension + rows * 8 + 4 * lists * dimension
    plan = inverted_plan("ivf-flat", rows, dimension, lists=lists, code_bytes=0, reason="a test")
    assert plan.nbytes == pytest.approx(taken, rel=0.01)
    assert rows * (2 * dimension + 8) + 4 * lists * dimension < 0.95 * taken  # without them it would not be
