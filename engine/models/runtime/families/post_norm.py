"""The layers of BERT and RoBERTa: a norm behind each half, over the sum of what went in and what came out.

A layer: one product for queries, keys and values; attention; product, then residual and norm in one pass; product with
GELU; product, residual and norm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .....kernels.add_norm import add_norm
from .....kernels.attention import attention, single_attention
from .....kernels.embed_norm import embed_norm
from .....kernels.layout import Layout
from .....kernels.linear_gelu import linear_gelu
from .backbone import Pick
from .buffers import Buffers
from .shape import Shape
from .weights import Linear, Norm


@dataclass(frozen=True, slots=True)
class Half:
    """One half of a layer: a product, what is made of it, a product back to the width, the norm."""

    first: Linear
    back: Linear
    norm: Norm


@dataclass(frozen=True, slots=True)
class PostNormLayer:
    """`attention.first` has the queries' outputs, the keys' and the values', side by side."""

    attention: Half
    feed_forward: Half


class PostNorm:
    """See `backbone.Backbone`."""

    def __init__(
        self,
        shape: Shape,
        tables: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        embedded: Norm,
        layers: list[PostNormLayer],
    ) -> None:
        """tables: embeddings of words, positions and segments."""
        self._shape = shape
        self._tables = tables
        self._embedded = embedded
        self._layers = layers

    def all_tokens(
        self, ids: torch.Tensor, segments: torch.Tensor | None, layout: Layout, buffers: Buffers
    ) -> torch.Tensor:
        """See `backbone.Backbone`."""
        hidden = self._embed(ids, segments, layout, buffers)
        for layer in self._layers:
            hidden = self._whole(layer, hidden, layout, buffers)
        return hidden

    def one_token(
        self, ids: torch.Tensor, segments: torch.Tensor | None, layout: Layout, buffers: Buffers, pick: Pick
    ) -> torch.Tensor:
        """See `backbone.Backbone`."""
        hidden = self._embed(ids, segments, layout, buffers)
        for layer in self._layers[:-1]:
            hidden = self._whole(layer, hidden, layout, buffers)
        return self._single(self._layers[-1], hidden, layout, buffers, pick)

    def _embed(
        self, ids: torch.Tensor, segments: torch.Tensor | None, layout: Layout, buffers: Buffers
    ) -> torch.Tensor:
        known = segments if len(self._tables[2]) > 1 else None
        positions = layout.positions
        if self._shape.first_position:
            positions = positions_behind_padding(ids, positions, self._shape.first_position)
        out = buffers.stream[: layout.capacity]
        return embed_norm(ids, positions, known, *self._tables, *self._embedded, self._shape.eps, out=out)

    def _whole(self, layer: PostNormLayer, hidden: torch.Tensor, layout: Layout, buffers: Buffers) -> torch.Tensor:
        """One layer of every token; the result replaces `hidden`."""
        tokens, heads, split = layout.capacity, self._shape.heads, self._shape.head_dim
        qkv, read = buffers.rows(tokens, self._shape.qkv, self._shape.width)
        layer.attention.first.into(hidden, qkv)
        attention(qkv.view(tokens, 3 * heads, split), layout, out=read.view(tokens, heads, split))
        narrow = buffers.narrow[:tokens]
        self._add(layer.attention, read, hidden, narrow)
        (wide,) = buffers.rows(tokens, self._shape.wide)
        return self._feed_forward(layer.feed_forward, hidden, narrow, wide)

    def _single(
        self, layer: PostNormLayer, hidden: torch.Tensor, layout: Layout, buffers: Buffers, pick: Pick
    ) -> torch.Tensor:
        """[n, width]: the last layer of one token of each sequence."""
        tokens, heads, count = layout.capacity, self._shape.heads, layout.sequences
        split, width = self._shape.head_dim, self._shape.width
        (kv,) = buffers.rows(tokens, 2 * width)
        layer.attention.first.part(width).into(hidden, kv)
        picked = pick(hidden, layout)
        q = layer.attention.first.part(0, width)(picked).view(count, heads, split)
        read = single_attention(q, kv.view(tokens, 2 * heads, split), layout).view(count, width)
        narrow = torch.empty_like(picked)
        self._add(layer.attention, read, picked, narrow)
        return self._feed_forward(layer.feed_forward, picked, narrow, picked.new_empty(count, self._shape.wide))

    def _feed_forward(self, half: Half, hidden: torch.Tensor, narrow: torch.Tensor, wide: torch.Tensor) -> torch.Tensor:
        if half.first.bias is None:
            raise ValueError("the feed-forward of a post-norm model has a bias")
        linear_gelu(hidden, half.first.weight, half.first.bias, out=wide)
        return self._add(half, wide, hidden, narrow)

    def _add(self, half: Half, x: torch.Tensor, residual: torch.Tensor, narrow: torch.Tensor) -> torch.Tensor:
        half.back.product(x, narrow)
        return add_norm(narrow, residual, half.back.bias, *half.norm, self._shape.eps, out=residual)


def positions_behind_padding(ids: torch.Tensor, places: torch.Tensor, first: int) -> torch.Tensor:
    """int32 [capacity]: RoBERTa's positions of tokens at `places` of their sequences, which begin at `first`.

    A token whose id is the padding's (a text may say `<pad>`) has that as position, and is not counted.
    """
    real = (ids != first - 1).to(torch.int32)
    counted = real.cumsum(0, dtype=torch.int32)
    start = torch.arange(len(ids), device=ids.device) - places
    before = counted[start] - real[start]
    return first - 1 + real * (counted - before)
