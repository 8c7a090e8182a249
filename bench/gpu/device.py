"""The card: how much of it is taken, whoever took it, and whether it still computes."""

from __future__ import annotations

import gc
import logging

from ...engine.platform import cuda_driver
from ..document import said
from .settings import Settings

log = logging.getLogger(__name__)
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


def works(settings: Settings) -> bool:
    """Whether the device still computes: after a fault a CUDA context answers every call with it.

    Asked of PyTorch; where that does not reach the card, nothing is known and the next case may try.
    """
    if settings.dry or cuda_driver.torch_problem() is not None:
        return True
    try:
        import torch

        torch.cuda.empty_cache()
        torch.cuda.synchronize()
        return bool(torch.ones(8, device=settings.device).sum().item() == 8)
    except Exception as error:
        log.error("the device no longer works: %s", said(error))
        return False
