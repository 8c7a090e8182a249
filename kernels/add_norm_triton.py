"""Residual + bias + LayerNorm: a few rows a program, in registers, one read and one write."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

ROWS = 4
"""Rows, and warps, of a program. A row of up to 256 columns has a warp to itself; two share one of 384, four one of
768."""


def launch(
    x: torch.Tensor,
    residual: torch.Tensor,
    bias: torch.Tensor | None,
    weight: torch.Tensor,
    beta: torch.Tensor,
    eps: float,
    out: torch.Tensor,
) -> None:
    """Fill `out`: see `add_norm.add_norm`."""
    rows, width = x.shape
    _add_norm[(triton.cdiv(rows, ROWS),)](
        x, residual, x if bias is None else bias, weight, beta, out, rows, eps,
        WIDTH=width, SIZE=triton.next_power_of_2(width), ROWS=ROWS, BIAS=bias is not None, num_warps=ROWS,
    )  # fmt: skip


@triton.jit
def normalized(summed, weight_ptr, beta_ptr, eps, WIDTH: tl.constexpr, SIZE: tl.constexpr):
    """LayerNorm of float32 rows [r, SIZE], zero from WIDTH on: mean, then the variance around it, in float32."""
    column = tl.arange(0, SIZE)
    inside = column < WIDTH
    mean = tl.sum(summed, 1) / WIDTH
    centred = tl.where(inside[None, :], summed - mean[:, None], 0.0)
    variance = tl.sum(centred * centred, 1) / WIDTH
    weight = tl.load(weight_ptr + column, mask=inside, other=0.0).to(tl.float32)
    beta = tl.load(beta_ptr + column, mask=inside, other=0.0).to(tl.float32)
    return centred * (1.0 / tl.sqrt(variance + eps))[:, None] * weight[None, :] + beta[None, :]


@triton.jit
def _add_norm(
    x_ptr, residual_ptr, bias_ptr, weight_ptr, beta_ptr, out_ptr, rows, eps,
    WIDTH: tl.constexpr, SIZE: tl.constexpr, ROWS: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, SIZE)
    inside = (row[:, None] < rows) & (column[None, :] < WIDTH)
    at = row.to(tl.int64)[:, None] * WIDTH + column[None, :]
    summed = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    summed += tl.load(residual_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if BIAS:
        summed += tl.load(bias_ptr + column, mask=column < WIDTH, other=0.0).to(tl.float32)[None, :]
    out = normalized(summed, weight_ptr, beta_ptr, eps, WIDTH, SIZE)
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), mask=inside)
