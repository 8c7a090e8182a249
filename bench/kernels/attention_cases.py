"""Attention at a model's sizes: of all tokens, and of one token of each sequence."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ...kernels import attention
from ...kernels.layout import Layout
from .case import KernelCase, Random
from .contestants import Contestant, Sight, padded_attention, padded_single_attention, varlen


def attention_cases(
    model: str, where: Layout, heads: int, head_dim: int, sight: Sight, device: torch.device, random: Random
) -> Iterator[KernelCase]:
    """Both cases; the second where a single token sees all of its sequence, so without a window."""
    # A meta tensor has no lengths; there the bench only wants the launches.
    lengths = torch.diff(where.cu_seqlens).tolist() if device.type != "meta" else [0]
    longest = max(lengths)
    qkv = random(where.capacity, heads + 2 * sight.kv_heads, head_dim)
    out = random(where.capacity, heads, head_dim)

    def whole() -> torch.Tensor:
        return attention.attention(
            qkv, where, kv_heads=sight.kv_heads, causal=sight.causal, window=sight.window, out=out
        )

    rivals = {"padded sdpa": Contestant(lambda: padded_attention(qkv, where, longest, sight))}
    if device.type == "cuda":
        rivals["torch varlen"] = varlen(qkv, where, longest, sight)
    seen = [int(sight.mask(length, torch.device("cpu")).sum()) for length in lengths]
    flops = 4 * heads * head_dim * sum(seen)
    yield KernelCase(f"attention {model}", whole, rivals, moved=qkv.nbytes + out.nbytes, flops=flops)
    if sight.window is not None:
        return
    q, kv = random(where.sequences, heads, head_dim), qkv[:, heads:].contiguous()
    single = torch.empty_like(q)
    yield KernelCase(
        f"single_attention {model}",
        lambda: attention.single_attention(q, kv, where, out=single),
        {
            "padded sdpa": Contestant(lambda: padded_single_attention(q, kv, where, longest)),
            "all tokens, ours": Contestant(whole),
        },
        moved=kv.nbytes,
        flops=sum(4 * length * heads * head_dim for length in lengths),
    )
