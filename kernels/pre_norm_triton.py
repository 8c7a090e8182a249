"""Residual kept, and its norm: a few rows a program, in registers, one read and one write of each."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


def rows(width: int) -> int:
    """Rows, and warps, of a program: wide ones go one at a time, or their float32 would not fit the registers."""
    return 4 if width <= 1024 else 1


def launch(
    x: torch.Tensor | None, residual: torch.Tensor, weight: torch.Tensor, eps: float, centred: bool, out: torch.Tensor
) -> None:
    """Fill `out`, and add `x` to `residual`: see `pre_norm.pre_norm`."""
    count, width = residual.shape
    together = rows(width)
    size = triton.next_power_of_2(width)
    _pre_norm[(triton.cdiv(count, together),)](
        out if x is None else x, residual, weight, out, count, eps,
        WIDTH=width, SIZE=size, ROWS=together, ADD=x is not None, CENTRED=centred,
        num_warps=4 if together > 1 else min(16, max(4, size // 512)),
    )  # fmt: skip


@triton.jit
def _pre_norm(
    x_ptr, residual_ptr, weight_ptr, out_ptr, rows, eps,
    WIDTH: tl.constexpr, SIZE: tl.constexpr, ROWS: tl.constexpr, ADD: tl.constexpr, CENTRED: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, SIZE)
    inside = (row[:, None] < rows) & (column[None, :] < WIDTH)
    at = row.to(tl.int64)[:, None] * WIDTH + column[None, :]
    summed = tl.load(residual_ptr + at, mask=inside, other=0.0)
    if ADD:
        summed += tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(residual_ptr + at, summed, mask=inside)
    if CENTRED:
        summed = tl.where(column[None, :] < WIDTH, summed - (tl.sum(summed, 1) / WIDTH)[:, None], 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(summed * summed, 1) / WIDTH + eps)
    weight = tl.load(weight_ptr + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    tl.store(out_ptr + at, (summed * scale[:, None] * weight[None, :]).to(out_ptr.dtype.element_ty), mask=inside)
