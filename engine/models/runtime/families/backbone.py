"""What a family gives: the layers of a model, and its head of one logit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch.nn import functional

from .....kernels.layout import Layout
from ..base import Pooling
from .buffers import Buffers
from .weights import Linear

Pick = Callable[[torch.Tensor, Layout], torch.Tensor]
"""`first_tokens` or `last_tokens`."""


class Backbone(Protocol):
    """A model's layers. ids: int32 [capacity]; segments: uint8 [capacity] or None; `buffers` hold the capacity.

    What is returned may lie in `buffers`.
    """

    def all_tokens(
        self, ids: torch.Tensor, segments: torch.Tensor | None, layout: Layout, buffers: Buffers, /
    ) -> torch.Tensor:
        """[capacity, width]: hidden states of all tokens."""
        ...

    def one_token(
        self, ids: torch.Tensor, segments: torch.Tensor | None, layout: Layout, buffers: Buffers, pick: Pick, /
    ) -> torch.Tensor:
        """[n, width]: hidden states of the token of each sequence that `pick` picks; of an empty one something."""
        ...


@dataclass(frozen=True, slots=True)
class Score:
    """A head of one logit: a dense layer with its activation, a norm, a row, of which only the row is always there.

    row: float32; pooling: what the head reads; norm: weight of a LayerNorm without bias, and its eps
    """

    row: Linear
    pooling: Pooling
    dense: Linear | None = None
    activation: Literal["tanh", "gelu"] = "tanh"
    norm: tuple[torch.Tensor, float] | None = None

    def __call__(self, pooled: torch.Tensor) -> torch.Tensor:
        """float32 [n] of float32 [n, width]."""
        if self.dense is not None:
            dense = self.dense(pooled.to(self.dense.weight.dtype))
            pooled = torch.tanh(dense) if self.activation == "tanh" else functional.gelu(dense)
        if self.norm is not None:
            weight, eps = self.norm
            pooled = functional.layer_norm(pooled, pooled.shape[-1:], weight, eps=eps)
        return self.row(pooled.float())[:, 0]
