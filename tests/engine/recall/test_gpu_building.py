"""Building for a GPU, pretended: what fails there, and what it takes of the card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tandem.engine import indexing
from tandem.engine.errors import DeviceError, OutOfMemory
from tandem.engine.recall.gpu_faiss import STORED
from tandem.engine.recall.gpu_planning import GpuPlan


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
