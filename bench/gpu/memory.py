"""The card's memory, whoever took it: PyTorch, ONNX Runtime, FAISS, and the CUDA contexts of other processes."""

from __future__ import annotations

import gc

from .settings import Settings

COLUMN = "device GiB"


def used(settings: Settings) -> dict[str, float]:
    """GiB taken now, as a row's column; empty without a card.

    PyTorch's pool and ONNX Runtime's arena keep what they once had, so asked at the end of a case this is its peak.
    """
    if settings.dry:
        return {}
    try:
        import torch

        free, total = torch.cuda.mem_get_info()
    except Exception:  # a broken context does not answer, and its row says why
        return {}
    return {COLUMN: round((total - free) / 2**30, 3)}


def let_go(settings: Settings) -> None:
    """Give back what earlier cases held."""
    gc.collect()
    if not settings.dry:
        import torch

        torch.cuda.empty_cache()
