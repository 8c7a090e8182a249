"""Layers, pooling and score as one model over packed sequences, written with `kernels`: on CUDA their Triton form,
elsewhere the references.

Where a model is read at one token of a sequence that sees all of it (every [CLS], the last of a decoder), the last
layer computes keys and values of all tokens and everything else of that token alone, which is exact.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from .....kernels.attention import first_tokens, last_tokens
from .....kernels.layout import Layout
from .....kernels.pool import pool
from ..base import Head, Pooling
from . import FAMILIES, Config, Shape, shape_of
from .backbone import Score
from .buffers import Buffers
from .weights import Tensors, Weights


class PackedModel:
    """Weights of a model and its head. Nothing in a forward pass waits for the device or depends on values."""

    def __init__(
        self, config: Config, tensors: Tensors, head: Head, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        """`tensors` by the names of Hugging Face's models; `config` is one that `families.shape_of` knows.

        Raises ValueError for one that it does not know, KeyError naming a tensor that is missing.
        """
        shape = shape_of(config)
        if isinstance(shape, str):
            raise ValueError(f"the packed runtime does not know this model: {shape}")
        family = FAMILIES[config["model_type"]]
        weights = Weights(tensors, family.ROOT, dtype, device)
        self.shape: Shape = shape
        self.dtype = dtype
        self.device = torch.device(device)
        self._backbone = family.backbone(weights, shape)
        self._score: Score | None = None
        if head == "logit":
            self._score = family.score(weights, config)
            self._pooling: Pooling = self._score.pooling
        else:
            self._pooling = head

    def buffers(self, capacity: int) -> Buffers:
        """Activations for `capacity` tokens."""
        return Buffers(self.shape, capacity, self.dtype, self.device)

    def run(
        self,
        ids: torch.Tensor,
        segments: torch.Tensor | None,
        layout: Layout,
        buffers: Buffers,
        *,
        normalize: bool = False,
    ) -> torch.Tensor:
        """float32 [n] logits, or float32 [n, width] pooled hidden states, of the sequences of `layout`.

        ids: int32 [capacity]; segments: uint8 [capacity] or None; `layout` has positions from 0; `buffers` must hold
        the capacity. `normalize`: unit vectors, where there is no score. What an empty sequence gets is finite and
        means nothing.
        """
        normalize = normalize and self._score is None
        if self._pooling == "mean":
            hidden = self._backbone.all_tokens(ids, segments, layout, buffers)
            vectors = pool(hidden, layout.cu_seqlens, normalize=normalize)
        else:
            pick = first_tokens if self._pooling == "cls" else last_tokens
            vectors = self._backbone.one_token(ids, segments, layout, buffers, pick).float()
            vectors = functional.normalize(vectors, dim=1, eps=1e-12) if normalize else vectors
        return vectors if self._score is None else self._score(vectors)
