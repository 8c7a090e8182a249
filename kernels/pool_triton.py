"""Pooling: a program a sequence, its tokens a few at a time."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .pool import SHORTEST

TOKENS = 8
"""Tokens a step: one a warp and two in flight."""


def launch(hidden: torch.Tensor, cu_seqlens: torch.Tensor, normalize: bool, out: torch.Tensor) -> None:
    """Fill `out`: see `pool.pool`."""
    width = hidden.shape[1]
    _pool[(len(out),)](
        hidden, cu_seqlens, out, SHORTEST,
        WIDTH=width, SIZE=triton.next_power_of_2(width), TOKENS=TOKENS, NORMALIZE=normalize, num_warps=4,
    )  # fmt: skip


@triton.jit
def _pool(
    hidden_ptr, cu_ptr, out_ptr, shortest,
    WIDTH: tl.constexpr, SIZE: tl.constexpr, TOKENS: tl.constexpr, NORMALIZE: tl.constexpr,
):  # fmt: skip
    sequence = tl.program_id(0)
    column = tl.arange(0, SIZE)
    start = tl.load(cu_ptr + sequence)
    length = tl.load(cu_ptr + sequence + 1) - start
    base = hidden_ptr + start.to(tl.int64) * WIDTH
    total = tl.zeros([TOKENS, SIZE], tl.float32)
    for begin in range(0, length, TOKENS):
        token = begin + tl.arange(0, TOKENS)
        inside = (token[:, None] < length) & (column[None, :] < WIDTH)
        total += tl.load(base + token[:, None] * WIDTH + column[None, :], mask=inside, other=0.0).to(tl.float32)
    pooled = tl.sum(total, 0) / tl.maximum(length, 1)
    if NORMALIZE:
        pooled = pooled / tl.maximum(tl.sqrt(tl.sum(pooled * pooled, 0)), shortest)
    tl.store(out_ptr + sequence * WIDTH + column, pooled, mask=column < WIDTH)
