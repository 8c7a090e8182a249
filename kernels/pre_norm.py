"""The norm in front of each half of a layer (ModernBERT, Qwen3): the half before is added to the residual, which stays.

The residual is float32 whatever the model computes in. It grows from layer to layer, in some models beyond the 65,504
of half precision, and what is added late would be rounded to what is there.
"""

from __future__ import annotations

import torch

from .checks import Floats, check
from .dispatch import fused


def pre_norm(
    x: torch.Tensor | None,
    residual: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    *,
    centred: bool,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Add `x` to `residual` in place; norm(residual) · weight, [rows, d] of `weight`'s dtype.

    x: [rows, d] of `weight`'s dtype, None to add nothing; residual: float32 [rows, d]; weight: [d] float16, bfloat16 or
    float32. `out` may be `x`.
    centred: LayerNorm without bias, around the row's mean; otherwise RMSNorm. Both in float32, rounded once.
    """
    check("residual", residual, (None, None), (torch.float32,))
    check("weight", weight, (residual.shape[1],), Floats, residual.device)
    for name, rows in (("x", x), ("out", out)):
        if rows is not None:
            check(name, rows, tuple(residual.shape), (weight.dtype,), residual.device)
    out = torch.empty_like(residual, dtype=weight.dtype) if out is None else out
    if fused(residual):
        from .pre_norm_triton import launch

        launch(x, residual, weight, eps, centred, out)
        return out
    return out.copy_(reference(x, residual, weight, eps, centred=centred))


def reference(
    x: torch.Tensor | None, residual: torch.Tensor, weight: torch.Tensor, eps: float, *, centred: bool
) -> torch.Tensor:
    """`pre_norm` in PyTorch; it too changes `residual`."""
    if x is not None:
        residual += x
    if centred:
        return torch.nn.functional.layer_norm(residual, residual.shape[-1:], weight.float(), eps=eps).to(weight.dtype)
    return torch.nn.functional.rms_norm(residual, residual.shape[-1:], weight.float(), eps=eps).to(weight.dtype)
