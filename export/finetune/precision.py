"""The type in which a training computes; what it learns and keeps is float32 in any case."""

from __future__ import annotations

import torch

from ...engine.cpu import has_bfloat16


def compute_dtype() -> torch.dtype:
    """bfloat16 where the processor has instructions for it, else float32.

    With them a step takes half of float32's time. Without (AVX2, two cores of an EPYC of 2021): 1.3 GFLOP/s a core
    instead of 59, so that a step would take minutes.
    """
    return torch.bfloat16 if has_bfloat16() else torch.float32
