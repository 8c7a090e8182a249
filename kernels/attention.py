"""Attention over packed sequences: every token attends to tokens of its own sequence, nothing is padded.

    attention          all tokens ask: all layers but the last
    single_attention   one token of each sequence asks, and sees all of it: the last layer of a model that is read at
                       its first token, or at its last where attention is causal. What that layer would compute of the
                       other tokens is never used, so this is exact

softmax(q kᵀ · scale) v with scale = head_dim^-½; the kernels accumulate in float32 and use exp2 with log2(e) folded
into the scale. Where there are fewer key and value heads than query heads, neighbouring query heads share one.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch.nn.functional import scaled_dot_product_attention

from .checks import Floats, check
from .dispatch import fused
from .layout import Layout, check_layout

HEAD_DIMS = (16, 32, 64, 128)


def attention(
    qkv: torch.Tensor,
    layout: Layout,
    *,
    kv_heads: int | None = None,
    causal: bool = False,
    window: int | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """What each token reads of its sequence.

    qkv: [capacity, heads + 2 kv_heads, head_dim] float16, bfloat16 or float32: the fused projection's output, the heads
    of the queries, then those of the keys, then those of the values
    kv_heads: heads of the keys, which divide those of the queries; None: as many
    causal: a token sees itself and those before it
    window: a token sees those at most so many places away, itself included (0 or more); None: all
    returns: [capacity, heads, head_dim], zeros in the tail. head_dim is 16, 32, 64 or 128.
    """
    check("qkv", qkv, (None, None, None), Floats)
    capacity, parts, head_dim = qkv.shape
    kv_heads = parts // 3 if kv_heads is None else kv_heads
    heads = parts - 2 * kv_heads
    _check_heads(heads, kv_heads, head_dim)
    if window is not None and window < 0:
        raise ValueError(f"window is {window}; a token sees itself at least, which is 0")
    check_layout(layout, None, capacity, qkv.device)
    out = qkv.new_empty(capacity, heads, head_dim) if out is None else out
    check("out", out, (capacity, heads, head_dim), (qkv.dtype,), qkv.device)
    if fused(qkv):
        from .attention_triton import launch

        launch(qkv, layout, kv_heads, causal, window, out)
        return out
    return out.copy_(attention_reference(qkv, layout, kv_heads=kv_heads, causal=causal, window=window))


def attention_reference(
    qkv: torch.Tensor, layout: Layout, *, kv_heads: int | None = None, causal: bool = False, window: int | None = None
) -> torch.Tensor:
    """`attention` in PyTorch, sequence by sequence; reads the lengths on the host."""
    kv_heads = qkv.shape[1] // 3 if kv_heads is None else kv_heads
    sizes = [qkv.shape[1] - 2 * kv_heads, kv_heads, kv_heads]
    out = qkv.new_zeros(len(qkv), *qkv.shape[1:]).narrow(1, 0, sizes[0])
    bounds = layout.cu_seqlens.tolist()
    for start, end in pairwise(bounds):
        if end > start:
            q, k, v = torch.split(qkv[start:end].transpose(0, 1)[None], sizes, 1)
            seen = _seen(end - start, causal, window, qkv.device)
            read = scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=sizes[0] != kv_heads)
            out[start:end] = read[0].transpose(0, 1)
    return out


def _seen(length: int, causal: bool, window: int | None, device: torch.device) -> torch.Tensor | None:
    """bool [length, length]: which key (column) each query (row) sees; None where that is all."""
    if not causal and window is None:
        return None
    place = torch.arange(length, device=device)
    away = place[:, None] - place[None, :]
    seen = away >= 0 if causal else torch.ones_like(away, dtype=torch.bool)
    return seen if window is None else seen & (away.abs() <= window)


def single_attention(
    q: torch.Tensor, kv: torch.Tensor, layout: Layout, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """What one token of each sequence reads of the whole of it.

    q:  [n, heads, head_dim]  projections of the tokens that ask; anything for an empty sequence
    kv: [capacity, 2 kv_heads, head_dim] of the same dtype: the heads of the keys, then those of the values
    returns: [n, heads, head_dim], zeros for an empty sequence
    """
    check("kv", kv, (None, None, None), Floats)
    capacity, parts, head_dim = kv.shape
    check_layout(layout, None, capacity, kv.device)
    check("q", q, (layout.sequences, None, head_dim), (kv.dtype,), kv.device)
    _check_heads(q.shape[1], parts // 2, head_dim)
    out = torch.empty_like(q) if out is None else out
    check("out", out, tuple(q.shape), (q.dtype,), q.device)
    if fused(q):
        from .attention_triton import launch_single

        launch_single(q, kv, layout, out)
        return out
    return out.copy_(single_attention_reference(q, kv, layout))


def single_attention_reference(q: torch.Tensor, kv: torch.Tensor, layout: Layout) -> torch.Tensor:
    """`single_attention` in PyTorch, sequence by sequence; reads the lengths on the host."""
    out = torch.zeros_like(q)
    bounds = layout.cu_seqlens.tolist()
    for sequence, (start, end) in enumerate(pairwise(bounds)):
        if end > start:
            k, v = kv[start:end].transpose(0, 1)[None].chunk(2, 1)
            asking = q[sequence][None, :, None]
            read = scaled_dot_product_attention(asking, k, v, enable_gqa=q.shape[1] != k.shape[1])
            out[sequence] = read[0, :, 0]
    return out


def first_tokens(hidden: torch.Tensor, layout: Layout) -> torch.Tensor:
    """[n, …]: the rows of `hidden` [capacity, …] of each sequence's first token; some other row for an empty one."""
    return hidden[layout.cu_seqlens[:-1].clamp(max=layout.capacity - 1)]


def last_tokens(hidden: torch.Tensor, layout: Layout) -> torch.Tensor:
    """[n, …]: the rows of `hidden` [capacity, …] of each sequence's last token; some other row for an empty one."""
    return hidden[(layout.cu_seqlens[1:] - 1).clamp(min=0)]


def _check_heads(heads: int, kv_heads: int, head_dim: int) -> None:
    if head_dim not in HEAD_DIMS:
        raise ValueError(f"head_dim is {head_dim}; the attention knows {', '.join(map(str, HEAD_DIMS))}")
    if kv_heads < 1 or heads < 1 or heads % kv_heads:
        raise ValueError(f"{heads} heads of queries cannot share {kv_heads} of keys and values; their number divides")
