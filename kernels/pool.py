"""A vector of each packed sequence: the mean of its tokens or its first token, of unit length if wanted."""

from __future__ import annotations

from typing import Literal

import torch

from .checks import Floats, check
from .dispatch import fused
from .layout import sequence_of

SHORTEST = 1e-12
"""Norms below it count as it, as torch.nn.functional.normalize has it."""


def pool(
    hidden: torch.Tensor,
    cu_seqlens: torch.Tensor,
    mode: Literal["mean", "cls"],
    *,
    normalize: bool,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """float32 [n, d], accumulated in float32; zeros for an empty sequence.

    hidden: [capacity, d] float16, bfloat16 or float32; cu_seqlens: int32 [n + 1] (see `layout.Layout`)
    mode: `mean` of the sequence's tokens, or its first, `cls`; normalize: divide by the Euclidean norm
    """
    check("hidden", hidden, (None, None), Floats)
    check("cu_seqlens", cu_seqlens, (None,), (torch.int32,), hidden.device)
    if mode not in ("mean", "cls"):
        raise ValueError(f"mode is {mode!r}, not mean or cls")
    shape = (len(cu_seqlens) - 1, hidden.shape[1])
    out = hidden.new_empty(shape, dtype=torch.float32) if out is None else out
    check("out", out, shape, (torch.float32,), hidden.device)
    if fused(hidden):
        from .pool_triton import launch

        launch(hidden, cu_seqlens, mode, normalize, out)
        return out
    return out.copy_(reference(hidden, cu_seqlens, mode, normalize=normalize))


def reference(
    hidden: torch.Tensor, cu_seqlens: torch.Tensor, mode: Literal["mean", "cls"], *, normalize: bool
) -> torch.Tensor:
    """`pool` in PyTorch."""
    count = len(cu_seqlens) - 1
    lengths = torch.diff(cu_seqlens)
    if mode == "cls":
        first = hidden[cu_seqlens[:-1].clamp(max=len(hidden) - 1)].float()
        pooled = torch.where(lengths[:, None] > 0, first, 0.0)
    else:
        sums = hidden.new_zeros(count + 1, hidden.shape[1], dtype=torch.float32)
        sums.index_add_(0, sequence_of(cu_seqlens, len(hidden)), hidden.float())
        pooled = sums[:count] / lengths[:, None].clamp(min=1)
    return torch.nn.functional.normalize(pooled, dim=1, eps=SHORTEST) if normalize else pooled
