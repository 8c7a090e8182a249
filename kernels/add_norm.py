"""Residual, bias and LayerNorm in one pass: what follows each projection back to the model's width."""

from __future__ import annotations

import torch

from .checks import Floats, check
from .dispatch import fused


def add_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    bias: torch.Tensor | None,
    weight: torch.Tensor,
    beta: torch.Tensor,
    eps: float,
    *,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """LayerNorm(x + bias + residual) · weight + beta, [rows, d].

    x, residual: [rows, d]; bias (of the projection that made `x`, None when it was added already), weight, beta: [d];
    one dtype: float16, bfloat16 or float32. `out` may be `x` or `residual`. The kernel adds and normalises in float32;
    the variance is that of the row (not n - 1), as torch.nn.LayerNorm has it.
    """
    check("x", x, (None, None), Floats)
    check("residual", residual, tuple(x.shape), (x.dtype,), x.device)
    for name, vector in (("bias", bias), ("weight", weight), ("beta", beta)):
        if vector is not None:
            check(name, vector, (x.shape[1],), (x.dtype,), x.device)
    out = torch.empty_like(x) if out is None else out
    check("out", out, tuple(x.shape), (x.dtype,), x.device)
    if fused(x):
        from .add_norm_triton import launch

        launch(x, residual, bias, weight, beta, eps, out)
        return out
    return out.copy_(reference(x, residual, bias, weight, beta, eps))


def reference(
    x: torch.Tensor,
    residual: torch.Tensor,
    bias: torch.Tensor | None,
    weight: torch.Tensor,
    beta: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """`add_norm` in PyTorch."""
    summed = x + residual if bias is None else x + bias + residual
    return torch.nn.functional.layer_norm(summed, summed.shape[-1:], weight, beta, eps)
