"""The gate: both halves read once, a strip of a row a program."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .gated import Activation

COLUMNS = 1024
"""Of a program: eight a thread, which is 16 bytes in half precision."""


def launch(x: torch.Tensor, activation: Activation, out: torch.Tensor) -> None:
    """Fill `out`: see `gated.gated`."""
    rows, width = out.shape
    columns = min(COLUMNS, triton.next_power_of_2(width))
    _gated[(rows, triton.cdiv(width, columns))](x, out, width, COLUMNS=columns, GELU=activation == "gelu", num_warps=4)


@triton.jit
def _gated(x_ptr, out_ptr, width, COLUMNS: tl.constexpr, GELU: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    first = tl.load(x_ptr + row * 2 * width + column, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(x_ptr + row * 2 * width + width + column, mask=inside, other=0.0).to(tl.float32)
    first = 0.5 * first * (1.0 + tl.erf(first * 0.7071067811865476)) if GELU else first / (1.0 + tl.exp(-first))
    tl.store(out_ptr + row * width + column, (first * second).to(out_ptr.dtype.element_ty), mask=inside)
