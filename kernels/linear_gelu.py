"""The first half of a feed-forward: matrix product, bias and exact GELU in one pass over the output.

GELU(x) = x/2 (1 + erf(x/√2)), the form BERT was trained with. cuBLAS fuses only the tanh form, so that without this op
the model's widest activation makes one round trip more.
"""

from __future__ import annotations

import torch

from .checks import Floats, check
from .dispatch import fused


def linear_gelu(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """GELU(x weightᵀ + bias), [rows, f].

    x: [rows, d]; weight: [f, d] as torch.nn.Linear keeps it; bias: [f]; one dtype: float16, bfloat16 or float32.
    The kernel accumulates in float32 and rounds once, behind the GELU.
    """
    check("x", x, (None, None), Floats)
    rows, width = x.shape
    check("weight", weight, (None, width), (x.dtype,), x.device)
    check("bias", bias, (len(weight),), (x.dtype,), x.device)
    out = x.new_empty(rows, len(weight)) if out is None else out
    check("out", out, (rows, len(weight)), (x.dtype,), x.device)
    if fused(x):
        from .linear_gelu_triton import launch

        launch(x, weight, bias, out)
        return out
    return out.copy_(reference(x, weight, bias))


def reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """`linear_gelu` in PyTorch."""
    return torch.nn.functional.gelu(torch.nn.functional.linear(x, weight, bias))
