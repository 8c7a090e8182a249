"""Bidirectional attention over packed sequences: every token attends to its own sequence, nothing is padded.

    attention         all tokens ask: all layers but the last
    first_attention   only token 0 of each sequence asks: the last layer of a model that is read at [CLS], where the
                      queries, output projection and feed-forward of other tokens are never used (exact)

softmax(q kᵀ · scale) v with scale = head_dim^-½; the kernels accumulate in float32 and use exp2 with log2(e) folded
into the scale.
"""

from __future__ import annotations

from itertools import pairwise

import torch

from .checks import Floats, check
from .dispatch import fused
from .layout import Layout, check_layout

HEAD_DIMS = (16, 32, 64, 128)


def attention(qkv: torch.Tensor, layout: Layout, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """What each token reads of its sequence.

    qkv: [capacity, 3, heads, head_dim] float16, bfloat16 or float32: the fused projection's output
    returns: [capacity, heads, head_dim], zeros in the tail. head_dim is 16, 32, 64 or 128.
    """
    capacity, _, heads, head_dim = _shape("qkv", qkv, 3)
    check_layout(layout, None, capacity, qkv.device)
    out = torch.empty_like(qkv[:, 0]) if out is None else out
    check("out", out, (capacity, heads, head_dim), (qkv.dtype,), qkv.device)
    if fused(qkv):
        from .attention_triton import launch

        launch(qkv, layout, out)
        return out
    return out.copy_(attention_reference(qkv, layout))


def attention_reference(qkv: torch.Tensor, layout: Layout) -> torch.Tensor:
    """`attention` in PyTorch, sequence by sequence; reads the lengths on the host."""
    out = torch.zeros_like(qkv[:, 0])
    bounds = layout.cu_seqlens.tolist()
    for start, end in pairwise(bounds):
        if end > start:
            q, k, v = qkv[start:end].permute(1, 2, 0, 3)[:, None]
            out[start:end] = torch.nn.functional.scaled_dot_product_attention(q, k, v)[0].transpose(0, 1)
    return out


def first_attention(
    q: torch.Tensor, kv: torch.Tensor, layout: Layout, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """What the first token of each sequence reads of it.

    q:  [n, heads, head_dim]  projections of the sequences' first tokens; anything for an empty sequence
    kv: [capacity, 2, heads, head_dim] of the same dtype
    returns: [n, heads, head_dim], zeros for an empty sequence
    """
    capacity, _, heads, head_dim = _shape("kv", kv, 2)
    check_layout(layout, None, capacity, kv.device)
    check("q", q, (layout.sequences, heads, head_dim), (kv.dtype,), kv.device)
    out = torch.empty_like(q) if out is None else out
    check("out", out, tuple(q.shape), (q.dtype,), q.device)
    if fused(q):
        from .attention_triton import launch_first

        launch_first(q, kv, layout, out)
        return out
    return out.copy_(first_attention_reference(q, kv, layout))


def first_attention_reference(q: torch.Tensor, kv: torch.Tensor, layout: Layout) -> torch.Tensor:
    """`first_attention` in PyTorch, sequence by sequence; reads the lengths on the host."""
    out = torch.zeros_like(q)
    bounds = layout.cu_seqlens.tolist()
    for sequence, (start, end) in enumerate(pairwise(bounds)):
        if end > start:
            k, v = kv[start:end].permute(1, 2, 0, 3)[:, None]
            asking = q[sequence][None, :, None]
            out[sequence] = torch.nn.functional.scaled_dot_product_attention(asking, k, v)[0, :, 0]
    return out


def first_tokens(hidden: torch.Tensor, layout: Layout, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """[n, …]: the rows of `hidden` [capacity, …] of each sequence's first token; some other row for an empty one."""
    rows = layout.cu_seqlens[:-1].clamp(max=layout.capacity - 1)
    return torch.index_select(hidden, 0, rows, out=out) if out is not None else hidden[rows]


def _shape(name: str, tensor: torch.Tensor, parts: int) -> tuple[int, int, int, int]:
    check(name, tensor, (None, parts, None, None), Floats)
    capacity, _, heads, head_dim = tensor.shape
    if head_dim not in HEAD_DIMS:
        raise ValueError(f"{name} has head_dim {head_dim}; the attention knows {', '.join(map(str, HEAD_DIMS))}")
    return capacity, parts, heads, head_dim
