"""Rotary positions of queries and keys, in place, behind the RMSNorm of each head where a model has one (Qwen3).

The two halves of a head are rotated by the angle position · theta^(-2i / head_dim), i a place in the half: the form of
Hugging Face's models, not the one that turns neighbours.
"""

from __future__ import annotations

import torch

from .checks import Floats, check
from .dispatch import fused


def rope_table(positions: int, head_dim: int, theta: float, device: torch.device | str) -> torch.Tensor:
    """float32 [positions, head_dim]: cosines of the angles, then their sines, rounded as the models round."""
    frequencies = 1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angles = torch.arange(positions, dtype=torch.float32)[:, None] * frequencies[None, :]
    return torch.cat([angles.cos(), angles.sin()], dim=1).to(device)


def rope(
    rows: torch.Tensor,
    positions: torch.Tensor,
    table: torch.Tensor,
    heads: int,
    kv_heads: int,
    *,
    weights: torch.Tensor | None = None,
    eps: float = 0.0,
) -> torch.Tensor:
    """Rotate queries and keys in `rows`, which is returned.

    rows:      [tokens, parts, head_dim] float16, bfloat16 or float32: first the `heads` of a token's query, then the
               `kv_heads` of its key, then what stays as it is; either number may be 0
    positions: int32 [tokens], rows of `table`: the kernel reads whatever memory one outside it points to
    table:     float32 [places, head_dim], see `rope_table`
    weights:   [2, head_dim] of the rows' dtype: of the RMSNorm of a query's head and of a key's, None for neither;
               `eps` of both. All in float32, rounded once.
    """
    check("rows", rows, (None, None, None), Floats)
    tokens, parts, head_dim = rows.shape
    if head_dim % 2 or min(heads, kv_heads) < 0 or not 1 <= heads + kv_heads <= parts:
        raise ValueError(f"rows have {parts} heads of {head_dim}; {heads} of queries and {kv_heads} of keys do not fit")
    check("positions", positions, (tokens,), (torch.int32,), rows.device)
    check("table", table, (None, head_dim), (torch.float32,), rows.device)
    if weights is not None:
        check("weights", weights, (2, head_dim), (rows.dtype,), rows.device)
    if fused(rows):
        from .rope_triton import launch

        launch(rows, positions, table, heads, heads + kv_heads, weights, eps)
        return rows
    rows[:, : heads + kv_heads] = reference(rows, positions, table, heads, kv_heads, weights=weights, eps=eps)
    return rows


def reference(
    rows: torch.Tensor,
    positions: torch.Tensor,
    table: torch.Tensor,
    heads: int,
    kv_heads: int,
    *,
    weights: torch.Tensor | None = None,
    eps: float = 0.0,
) -> torch.Tensor:
    """The queries and keys of `rope`, [tokens, heads + kv_heads, head_dim], in PyTorch; `rows` stays as it is."""
    turned = rows[:, : heads + kv_heads].float()
    if weights is not None:
        of_query, of_key = weights.float()
        scale = torch.cat([of_query.expand(heads, -1), of_key.expand(kv_heads, -1)])
        turned = torch.nn.functional.rms_norm(turned, turned.shape[-1:], eps=eps) * scale
    cosine, sine = table[positions][:, None].chunk(2, -1)
    first, second = turned.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1).to(rows.dtype)
