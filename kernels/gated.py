"""The gate of a feed-forward (GeGLU, SwiGLU): one half of a product, through its activation, times the other half."""

from __future__ import annotations

from typing import Literal

import torch

from .checks import Floats, check
from .dispatch import fused

Activation = Literal["gelu", "silu"]


def gated(x: torch.Tensor, activation: Activation, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """activation(x[:, :f]) · x[:, f:], [rows, f].

    x: [rows, 2 f] float16, bfloat16 or float32; gelu: x/2 (1 + erf(x/√2)), silu: x / (1 + e⁻ˣ). The kernel computes in
    float32 and rounds once.
    """
    check("x", x, (None, None), Floats)
    rows, width = x.shape
    if width % 2:
        raise ValueError(f"x has {width} columns; it has two halves of one width")
    out = x.new_empty(rows, width // 2) if out is None else out
    check("out", out, (rows, width // 2), (x.dtype,), x.device)
    if fused(x):
        from .gated_triton import launch

        launch(x, activation, out)
        return out
    return out.copy_(reference(x, activation))


def reference(x: torch.Tensor, activation: Activation) -> torch.Tensor:
    """`gated` in PyTorch."""
    first, second = x.chunk(2, 1)
    if activation == "gelu":
        return torch.nn.functional.gelu(first) * second
    return torch.nn.functional.silu(first) * second
