"""A layer of ModernBERT-base and one of Qwen3-0.6B: rotary positions, attention, kept residual, gate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ...kernels import gated, pre_norm, rope
from ...kernels.gated import Activation
from ...kernels.layout import Layout
from .attention_cases import attention_cases
from .case import EPS, KernelCase, Random
from .contestants import Sight, pytorch

TABLE = 8192
"""Positions of a table of angles."""


@dataclass(frozen=True, slots=True)
class PreNormSizes:
    """A layer. sights: what tokens see in its kinds of layers; centred: LayerNorm; normed: each head of q and k."""

    width: int
    heads: int
    kv_heads: int
    head_dim: int
    wide: int
    sights: dict[str, Sight]
    activation: Activation
    centred: bool
    normed: bool


MODERNBERT = PreNormSizes(
    768, 12, 12, 64, 1152, {"global": Sight(12), "window 64": Sight(12, window=64)}, "gelu", True, False
)
QWEN3 = PreNormSizes(1024, 16, 8, 128, 3072, {"causal": Sight(8, causal=True)}, "silu", False, True)
TINY_WINDOWS = PreNormSizes(64, 2, 2, 32, 96, {"global": Sight(2), "window 4": Sight(2, window=4)}, "gelu", True, False)
TINY_CAUSAL = PreNormSizes(64, 4, 2, 32, 96, {"causal": Sight(2, causal=True)}, "silu", False, True)


def pre_norm_cases(
    name: str, sizes: PreNormSizes, where: Layout, device: torch.device, random: Random
) -> Iterator[KernelCase]:
    """The operations of a layer beside its products, which are cuBLAS's."""
    for kind, sight in sizes.sights.items():
        yield from attention_cases(f"{name} {kind}", where, sizes.heads, sizes.head_dim, sight, device, random)
    yield _rope(name, sizes, where, device, random)
    yield _pre_norm(name, sizes, where.capacity, device, random)
    yield _gated(name, sizes, where.capacity, device, random)


def _rope(name: str, sizes: PreNormSizes, where: Layout, device: torch.device, random: Random) -> KernelCase:
    heads, kv_heads, positions = sizes.heads, sizes.kv_heads, where.positions
    turned = heads + kv_heads
    qkv = random(where.capacity, turned + kv_heads, sizes.head_dim)
    table = rope.rope_table(TABLE, sizes.head_dim, 10_000.0, device)
    weights = random(2, sizes.head_dim) if sizes.normed else None
    theirs = qkv.clone()  # ours turns its own in place

    def plain(qkv: torch.Tensor, positions: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return rope.reference(qkv, positions, table, heads, kv_heads, weights=weights, eps=EPS)

    return KernelCase(
        f"rope {name}",
        lambda: rope.rope(qkv, positions, table, heads, kv_heads, weights=weights, eps=EPS)[:, :turned],
        pytorch(plain, device, theirs, positions, table),
        moved=2 * qkv[:, :turned].nbytes,
    )


def _pre_norm(name: str, sizes: PreNormSizes, rows: int, device: torch.device, random: Random) -> KernelCase:
    x, weight, out = random(rows, sizes.width), random(sizes.width), random(rows, sizes.width)
    residual = torch.randn(rows, sizes.width, device=device)
    theirs = residual.clone()  # both grow, each its own

    def plain(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return pre_norm.reference(x, residual, weight, EPS, centred=sizes.centred)

    return KernelCase(
        f"pre_norm {name}",
        lambda: pre_norm.pre_norm(x, residual, weight, EPS, centred=sizes.centred, out=out),
        pytorch(plain, device, x, theirs, weight),
        moved=2 * x.nbytes + 2 * residual.nbytes,
    )


def _gated(name: str, sizes: PreNormSizes, rows: int, device: torch.device, random: Random) -> KernelCase:
    x, out = random(rows, 2 * sizes.wide), random(rows, sizes.wide)

    def plain(x: torch.Tensor) -> torch.Tensor:
        return gated.reference(x, sizes.activation)

    return KernelCase(
        f"gated {name}",
        lambda: gated.gated(x, sizes.activation, out=out),
        pytorch(plain, device, x),
        moved=x.nbytes + out.nbytes,
    )
