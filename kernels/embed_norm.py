"""The embedding layer in one pass: three gathered rows, their sum, LayerNorm."""

from __future__ import annotations

import torch

from .checks import Floats, check
from .dispatch import fused


def embed_norm(
    ids: torch.Tensor,
    positions: torch.Tensor,
    segments: torch.Tensor | None,
    word: torch.Tensor,
    position: torch.Tensor,
    segment: torch.Tensor,
    weight: torch.Tensor,
    beta: torch.Tensor,
    eps: float,
    *,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """LayerNorm(word[ids] + position[positions] + segment[segments]) · weight + beta, [tokens, d].

    ids, positions: int32 [tokens]; segments: uint8 [tokens], or None for 0 everywhere (XLM-R has one segment row)
    word: [vocabulary, d]; position: [places, d]; segment: [kinds, d]; weight, beta: [d]; one dtype: float16, bfloat16
    or float32. Ids must lie in their tables: the kernel reads whatever memory they point to.
    """
    check("ids", ids, (None,), (torch.int32,))
    tokens, device = len(ids), ids.device
    check("positions", positions, (tokens,), (torch.int32,), device)
    if segments is not None:
        check("segments", segments, (tokens,), (torch.uint8,), device)
    check("word", word, (None, None), Floats, device)
    width, dtype = word.shape[1], word.dtype
    check("position", position, (None, width), (dtype,), device)
    check("segment", segment, (None, width), (dtype,), device)
    check("weight", weight, (width,), (dtype,), device)
    check("beta", beta, (width,), (dtype,), device)
    out = word.new_empty(tokens, width) if out is None else out
    check("out", out, (tokens, width), (dtype,), device)
    if fused(ids):
        from .embed_norm_triton import launch

        launch(ids, positions, segments, word, position, segment, weight, beta, eps, out)
        return out
    return out.copy_(reference(ids, positions, segments, word, position, segment, weight, beta, eps))


def reference(
    ids: torch.Tensor,
    positions: torch.Tensor,
    segments: torch.Tensor | None,
    word: torch.Tensor,
    position: torch.Tensor,
    segment: torch.Tensor,
    weight: torch.Tensor,
    beta: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """`embed_norm` in PyTorch."""
    kind = segment[0] if segments is None else segment[segments.to(torch.int32)]
    summed = word[ids] + position[positions] + kind
    return torch.nn.functional.layer_norm(summed, summed.shape[-1:], weight, beta, eps)
