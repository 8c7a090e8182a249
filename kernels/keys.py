"""A score and an index in one int64 that orders as they do: higher scores first, then lower indices.

The upper 32 bits are the float32's, turned so that they order as integers; the lower 32 are the index's complement. A
selection over such keys has no ties and so one answer, in whatever order a GPU works. `NOTHING` is below every key.
"""

from __future__ import annotations

import torch

NOTHING = -(2**63)
_MAGNITUDE = 0x7FFFFFFF
_LOW = 0xFFFFFFFF


def encode(scores: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """int64 keys of float32 `scores` (not NaN) and their `indices` (int64, below 2³²), which broadcast."""
    scores = torch.where(scores == 0, 0.0, scores)  # -0 and 0 are a tie
    bits = scores.view(torch.int32)
    ordered = bits ^ ((bits >> 31) & _MAGNITUDE)
    return (ordered.to(torch.int64) << 32) | (_LOW - indices)


def decode(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 scores and int64 indices of `keys`; -inf and -1 where a key is `NOTHING`."""
    ordered = (keys >> 32).to(torch.int32)
    scores = (ordered ^ ((ordered >> 31) & _MAGNITUDE)).view(torch.float32)
    indices = _LOW - (keys & _LOW)
    nothing = keys == NOTHING
    return scores.masked_fill(nothing, -torch.inf), indices.masked_fill(nothing, -1)
