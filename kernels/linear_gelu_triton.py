"""Matrix product, bias and GELU: tiles of the output, float32 accumulators, the epilogue on them."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from .attention_triton import precision


class Tile(NamedTuple):
    """One program's part of the output, its step along the inner dimension, and its launch."""

    rows: int
    columns: int
    inner: int
    warps: int
    stages: int


def tile(rows: int, dtype: torch.dtype) -> Tile:
    """The launch rule; not yet tuned on a GPU.

    The inner dimension of MiniLM is 384, six steps: the GELU is a good part of a tile's time, so tiles are small enough
    (96 KB of shared memory) for two on a multiprocessor, one computing while the other stores. Few rows, as in a last
    layer for [CLS] only, take lower tiles so that more multiprocessors have one.
    """
    if dtype == torch.float32:
        return Tile(64, 64, 32, 4, 2)
    return Tile(128, 128, 64, 8, 3) if rows > 512 else Tile(64, 64, 64, 4, 4)


def launch(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, out: torch.Tensor) -> None:
    """Fill `out`: see `linear_gelu.linear_gelu`."""
    rows, width = x.shape
    size = tile(rows, x.dtype)
    grid = (triton.cdiv(rows, size.rows) * triton.cdiv(len(weight), size.columns),)
    _linear_gelu[grid](
        x, weight, bias, out, rows, len(weight), width,
        BLOCK_M=size.rows, BLOCK_N=size.columns, BLOCK_K=size.inner, EVEN=width % size.inner == 0,
        PRECISION=precision(x.dtype), num_warps=size.warps, num_stages=size.stages,
    )  # fmt: skip


@triton.jit
def _linear_gelu(
    x_ptr, weight_ptr, bias_ptr, out_ptr, rows, columns, inner,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    # Programs that run together share rows of x: it is longer than the weights, which all of them keep in the L2 cache.
    across = tl.cdiv(columns, BLOCK_N)
    row = (tl.program_id(0) // across) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = (tl.program_id(0) % across) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    # Rows and columns past the end read the last one's, unmasked, and are not stored.
    x_ptrs = x_ptr + tl.minimum(row, rows - 1).to(tl.int64)[:, None] * inner + k[None, :]
    weight_ptrs = weight_ptr + tl.minimum(column, columns - 1)[None, :] * inner + k[:, None]
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for begin in range(0, inner, BLOCK_K):
        if EVEN:
            a, b = tl.load(x_ptrs), tl.load(weight_ptrs)
        else:
            a = tl.load(x_ptrs, mask=k[None, :] < inner - begin, other=0.0)
            b = tl.load(weight_ptrs, mask=k[:, None] < inner - begin, other=0.0)
        total = tl.dot(a, b, total, input_precision=PRECISION)
        x_ptrs += BLOCK_K
        weight_ptrs += BLOCK_K
    inside = column < columns
    total += tl.load(bias_ptr + column, mask=inside, other=0.0).to(tl.float32)[None, :]
    total = 0.5 * total * (1.0 + tl.erf(total * 0.7071067811865476))
    out_ptrs = out_ptr + row.to(tl.int64)[:, None] * columns + column[None, :]
    tl.store(out_ptrs, total.to(out_ptr.dtype.element_ty), mask=(row[:, None] < rows) & inside[None, :])
