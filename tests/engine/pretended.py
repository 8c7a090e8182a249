"""A card where there is none: what is asked of the driver, PyTorch and FAISS answers as if one were here."""

from __future__ import annotations

import pytest

from tandem.engine.platform import cuda_driver
from tandem.engine.recall import gpu_faiss

GIB = 2**30


def card(monkeypatch: pytest.MonkeyPatch, *, free: int | None = None, torch: str | None = None) -> None:
    """80 GiB, of which `free` bytes are free (None: nobody knows); `torch`: why PyTorch does not reach it."""
    monkeypatch.setattr(cuda_driver, "find", lambda: cuda_driver.Gpu("a card", 80 * GIB, (9, 0)))
    monkeypatch.setattr(cuda_driver, "torch_problem", lambda: torch)
    monkeypatch.setattr(cuda_driver, "faiss_problem", lambda: None)
    monkeypatch.setattr(cuda_driver, "free_memory", lambda: free)


def faiss_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAISS's GPU: what is built, and opened there, is the CPU index."""
    build = gpu_faiss.build
    monkeypatch.setattr(cuda_driver, "faiss_problem", lambda: None)
    monkeypatch.setattr(gpu_faiss, "_resources", lambda: None)
    monkeypatch.setattr(gpu_faiss, "_moved", lambda resources, index: index)
    monkeypatch.setattr(gpu_faiss, "build", lambda vectors, plan, on_gpu: build(vectors, plan, on_gpu=False))
