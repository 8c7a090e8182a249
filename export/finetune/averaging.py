"""The running mean of the weights: each step's noise cancels, and what is kept is nearer the bottom than any step was.

Exponentially weighted, as Polyak & Juditsky (1992) average iterates and most trainings do today.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .model import Reranker

# A step's weights count half as much 138 steps later: of a training of an hour the last twelfth counts.
DECAY = 0.995
# Before this share of the training the weights still move too far for a mean to follow.
BEGINS = 0.5


class Average:
    """The mean of a model's trained tensors since `follow` was first called; without a call, what they are."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    @torch.no_grad()
    def follow(self, model: Reranker) -> None:
        """Take one step's weights in."""
        if not self.tensors:
            self.tensors = {name: tensor.detach().clone() for name, tensor in model.trained().items()}
        for name, tensor in model.trained().items():
            self.tensors[name].lerp_(tensor, 1.0 - DECAY)

    @contextmanager
    def inside(self, model: Reranker) -> Iterator[None]:
        """The model has the mean for its weights, and its own again afterwards."""
        own = {name: tensor.detach().clone() for name, tensor in model.trained().items()}
        _put(model, self.tensors)
        try:
            yield
        finally:
            _put(model, own)


@torch.no_grad()
def _put(model: Reranker, tensors: dict[str, Tensor]) -> None:
    trained = model.trained()
    for name, tensor in tensors.items():
        trained[name].copy_(tensor)
