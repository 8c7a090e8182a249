"""A vector of each packed sequence: the mean of its tokens, of unit length if wanted."""

from __future__ import annotations

import torch

from .checks import Floats, check
from .dispatch import fused
from .layout import sequence_of

SHORTEST = 1e-12
"""Norms below it count as it, as torch.nn.functional.normalize has it."""


def pool(
    hidden: torch.Tensor, cu_seqlens: torch.Tensor, *, normalize: bool, out: torch.Tensor | None = None
) -> torch.Tensor:
    """float32 [n, d]: the mean of each sequence's tokens, accumulated in float32; zeros for an empty sequence.

    hidden: [capacity, d] float16, bfloat16 or float32; cu_seqlens: int32 [n + 1] (see `layout.Layout`)
    normalize: divide by the Euclidean norm
    """
    check("hidden", hidden, (None, None), Floats)
    check("cu_seqlens", cu_seqlens, (None,), (torch.int32,), hidden.device)
    shape = (len(cu_seqlens) - 1, hidden.shape[1])
    out = hidden.new_empty(shape, dtype=torch.float32) if out is None else out
    check("out", out, shape, (torch.float32,), hidden.device)
    if fused(hidden):
        from .pool_triton import launch

        launch(hidden, cu_seqlens, normalize, out)
        return out
    return out.copy_(reference(hidden, cu_seqlens, normalize=normalize))


def reference(hidden: torch.Tensor, cu_seqlens: torch.Tensor, *, normalize: bool) -> torch.Tensor:
    """`pool` in PyTorch."""
    count = len(cu_seqlens) - 1
    sums = hidden.new_zeros(count + 1, hidden.shape[1], dtype=torch.float32)
    sums.index_add_(0, sequence_of(cu_seqlens, len(hidden)), hidden.float())
    pooled = sums[:count] / torch.diff(cu_seqlens)[:, None].clamp(min=1)
    return torch.nn.functional.normalize(pooled, dim=1, eps=SHORTEST) if normalize else pooled
