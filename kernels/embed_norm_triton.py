"""Three gathered rows and LayerNorm: a few tokens a program."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .add_norm_triton import ROWS, normalized


def launch(
    ids: torch.Tensor,
    positions: torch.Tensor,
    segments: torch.Tensor | None,
    word: torch.Tensor,
    position: torch.Tensor,
    segment: torch.Tensor,
    weight: torch.Tensor,
    beta: torch.Tensor,
    eps: float,
    out: torch.Tensor,
) -> None:
    """Fill `out`: see `embed_norm.embed_norm`."""
    tokens, width = out.shape
    _embed_norm[(triton.cdiv(tokens, ROWS),)](
        ids, positions, ids if segments is None else segments, word, position, segment, weight, beta, out, tokens, eps,
        WIDTH=width, SIZE=triton.next_power_of_2(width), ROWS=ROWS, SEGMENTS=segments is not None, num_warps=ROWS,
    )  # fmt: skip


@triton.jit
def _embed_norm(
    ids_ptr, positions_ptr, segments_ptr, word_ptr, position_ptr, segment_ptr, weight_ptr, beta_ptr, out_ptr,
    tokens, eps,
    WIDTH: tl.constexpr, SIZE: tl.constexpr, ROWS: tl.constexpr, SEGMENTS: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, SIZE)
    inside = (token[:, None] < tokens) & (column[None, :] < WIDTH)
    word = tl.load(ids_ptr + token, mask=token < tokens, other=0).to(tl.int64)
    place = tl.load(positions_ptr + token, mask=token < tokens, other=0).to(tl.int64)
    summed = tl.load(word_ptr + word[:, None] * WIDTH + column[None, :], mask=inside, other=0.0).to(tl.float32)
    summed += tl.load(position_ptr + place[:, None] * WIDTH + column[None, :], mask=inside, other=0.0).to(tl.float32)
    if SEGMENTS:
        kind = tl.load(segments_ptr + token, mask=token < tokens, other=0).to(tl.int32)
        summed += tl.load(segment_ptr + kind[:, None] * WIDTH + column[None, :], mask=inside, other=0.0).to(tl.float32)
    else:
        summed += tl.load(segment_ptr + column, mask=column < WIDTH, other=0.0).to(tl.float32)[None, :]
    out = normalized(summed, weight_ptr, beta_ptr, eps, WIDTH, SIZE)
    at = token.to(tl.int64)[:, None] * WIDTH + column[None, :]
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), mask=inside)
