"""Rotary positions: a program takes some heads of queries and keys, both halves of each in registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

ROWS = 32
"""Heads of a program: of 64 they are 4 KB in half precision."""


def launch(
    rows: torch.Tensor,
    positions: torch.Tensor,
    table: torch.Tensor,
    heads: int,
    turned: int,
    weights: torch.Tensor | None,
    eps: float,
) -> None:
    """Change the first `turned` heads of each token, of which the first `heads` are queries': see `rope.rope`."""
    tokens, parts, head_dim = rows.shape
    _rope[(triton.cdiv(tokens * turned, ROWS),)](
        rows, positions, table, table if weights is None else weights, tokens * turned, turned, parts, heads, eps,
        HALF=head_dim // 2, ROWS=ROWS, NORM=weights is not None, num_warps=4,
    )  # fmt: skip


@triton.jit
def _rope(
    rows_ptr, positions_ptr, table_ptr, weights_ptr, rows, turned, parts, heads, eps,
    HALF: tl.constexpr, ROWS: tl.constexpr, NORM: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = (row < rows)[:, None]
    token, head = row // turned, row % turned
    dim = tl.arange(0, HALF)
    at = rows_ptr + (token.to(tl.int64) * parts + head)[:, None] * (2 * HALF) + dim[None, :]
    first = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(at + HALF, mask=inside, other=0.0).to(tl.float32)
    if NORM:
        mean = (tl.sum(first * first, 1) + tl.sum(second * second, 1)) / (2 * HALF)
        scale = (1.0 / tl.sqrt(mean + eps))[:, None]
        weight = weights_ptr + (head >= heads).to(tl.int32)[:, None] * (2 * HALF) + dim[None, :]
        first *= scale * tl.load(weight).to(tl.float32)
        second *= scale * tl.load(weight + HALF).to(tl.float32)
    position = tl.load(positions_ptr + token, mask=row < rows, other=0)
    angle = table_ptr + position.to(tl.int64)[:, None] * (2 * HALF) + dim[None, :]
    cosine, sine = tl.load(angle), tl.load(angle + HALF)
    tl.store(at, (first * cosine - second * sine).to(rows_ptr.dtype.element_ty), mask=inside)
    tl.store(at + HALF, (second * cosine + first * sine).to(rows_ptr.dtype.element_ty), mask=inside)
