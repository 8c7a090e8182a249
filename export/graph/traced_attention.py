"""Attention as one node of the traced graph, whatever the family.

transformers lets a model's attention be exchanged by name (its attention interface). Ours computes nothing: it leaves
a node `tandem::Attention` with what the family asked for, and `lowering` writes it for a CPU or a GPU. Families that
mix positions into the products (MPNet, DeBERTa) have no such place and are traced as they compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "tandem"
DOMAIN = "tandem"
OPERATOR = "Attention"
# Arguments that change nothing at inference, or are said by others.
_IGNORED = {"dropout", "position_ids", "use_cache", "deterministic", "output_attentions", "cache_position"}


def register() -> None:
    """Make `attn_implementation="tandem"` known to transformers."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _no_mask)


def _no_mask(*arguments: Any, **settings: Any) -> None:
    """A mask is made where the node is written for a device: from the rows' lengths, or not at all."""


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    position_bias: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """[batch, heads, length, width] three times → [batch, length, heads, width], and no weights.

    A window of w tokens reads positions less than w away; of a causal model, those that lie before.
    """
    unknown = {name for name, said in others.items() if said is not None and name not in _IGNORED}
    if unknown or attention_mask is not None:
        raise NotImplementedError(f"attention with {', '.join(sorted(unknown)) or 'a mask of its own'}")
    causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
    batch, heads, length, width = query.shape
    said: dict[str, int | float | str | bool | Sequence[int] | Sequence[float] | Sequence[str] | Sequence[bool]] = {
        "causal": int(bool(causal)),
        "window": int(sliding_window or 0),
        "scale": float(width**-0.5 if scaling is None else scaling),
        "heads": heads,
        "key_heads": key.shape[1],
        "width": width,
    }
    inputs = (query, key, value) if position_bias is None else (query, key, value, position_bias)
    shape = (batch, length, heads, value.shape[-1])
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::{OPERATOR}", inputs, said, dtype=query.dtype, shape=shape, version=1
    ), None
