"""The layers of ModernBERT and Qwen3: a norm in front of each half, whose result is added to a sum that is kept.

A layer: add and norm; one product for queries, keys and values; rotation of queries and keys; attention; product; add
and norm; product; gate; product, which the next layer adds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .....kernels.attention import attention, last_tokens, single_attention
from .....kernels.gated import Activation, gated
from .....kernels.layout import Layout
from .....kernels.pre_norm import pre_norm
from .....kernels.rope import rope, rope_table
from .backbone import Pick
from .buffers import Buffers
from .shape import LayerKind, Shape
from .weights import Linear


@dataclass(frozen=True, slots=True)
class PreNormLayer:
    """Weights of a layer. norm: None where its input is normed already; qkv: outputs of queries, keys and values;
    heads_norm: [2, head_dim] of the norm of a query's head and of a key's, None for none; up: outputs through the
    activation, then those that it gates."""

    norm: torch.Tensor | None
    qkv: Linear
    heads_norm: torch.Tensor | None
    read: Linear
    wide_norm: torch.Tensor
    up: Linear
    down: Linear


class PreNorm:
    """See `backbone.Backbone`."""

    def __init__(
        self,
        shape: Shape,
        *,
        word: torch.Tensor,
        embedded: torch.Tensor | None,
        layers: list[PreNormLayer],
        final: torch.Tensor,
        centred: bool,
        activation: Activation,
    ) -> None:
        """embedded: weight of the norm of the embeddings, None for none; final: of that behind the last layer;
        centred: whether the norms are LayerNorm, not RMSNorm."""
        self._shape = shape
        self._word = word
        self._embedded = embedded
        self._layers = list(zip(layers, shape.layers, strict=True))
        self._final = final
        self._centred = centred
        self._activation = activation
        thetas = {layer.theta for layer in shape.layers if layer.theta is not None}
        self._tables = {theta: rope_table(shape.positions, shape.head_dim, theta, word.device) for theta in thetas}

    def all_tokens(
        self, ids: torch.Tensor, segments: torch.Tensor | None, layout: Layout, buffers: Buffers
    ) -> torch.Tensor:
        """See `backbone.Backbone`."""
        x = self._embed(ids, buffers)
        for layer, own in self._layers:
            x = self._whole(layer, own, x, layout, buffers)
        return self._norm(x, buffers.stream[: len(x)], self._final, x)

    def one_token(
        self, ids: torch.Tensor, segments: torch.Tensor | None, layout: Layout, buffers: Buffers, pick: Pick
    ) -> torch.Tensor:
        """See `backbone.Backbone`."""
        last, own = self._layers[-1]
        if own.window is not None or (self._shape.causal and pick is not last_tokens):
            return pick(self.all_tokens(ids, segments, layout, buffers), layout)  # it does not see all of its sequence
        x = self._embed(ids, buffers)
        for layer, its in self._layers[:-1]:
            x = self._whole(layer, its, x, layout, buffers)
        return self._single(last, own, x, layout, buffers, pick)

    def _embed(self, ids: torch.Tensor, buffers: Buffers) -> torch.Tensor:
        """[capacity, width]: what the first layer takes."""
        x, stream = buffers.narrow[: len(ids)], buffers.stream[: len(ids)]
        torch.index_select(self._word, 0, ids, out=x)
        if self._embedded is None:
            stream.zero_()
            return x  # which the first layer adds
        stream.copy_(x)
        self._norm(None, stream, self._embedded, x)
        stream.copy_(x)
        return x

    def _whole(
        self, layer: PreNormLayer, own: LayerKind, x: torch.Tensor, layout: Layout, buffers: Buffers
    ) -> torch.Tensor:
        """One layer of every token, in place: `x` is what the layer before adds, and becomes what this one does."""
        tokens, shape = layout.capacity, self._shape
        if layer.norm is not None:
            self._norm(x, buffers.stream[:tokens], layer.norm, x)
        qkv, read = buffers.rows(tokens, shape.qkv, shape.heads * shape.head_dim)
        layer.qkv.into(x, qkv)
        heads = qkv.view(tokens, -1, shape.head_dim)
        self._rotate(heads, layout.positions, layer, own, shape.heads, shape.kv_heads)
        attention(
            heads, layout, kv_heads=shape.kv_heads, causal=shape.causal, window=own.window,
            out=read.view(tokens, shape.heads, shape.head_dim),
        )  # fmt: skip
        layer.read.into(read, x)
        wide, gate = buffers.rows(tokens, 2 * shape.wide, shape.wide)
        return self._feed_forward(layer, x, buffers.stream[:tokens], wide, gate)

    def _single(
        self, layer: PreNormLayer, own: LayerKind, x: torch.Tensor, layout: Layout, buffers: Buffers, pick: Pick
    ) -> torch.Tensor:
        """[n, width]: the last layer of one token of each sequence, and the norm behind it."""
        tokens, shape = layout.capacity, self._shape
        if layer.norm is not None:
            self._norm(x, buffers.stream[:tokens], layer.norm, x)
        split = shape.heads * shape.head_dim
        (kv,) = buffers.rows(tokens, shape.qkv - split)
        layer.qkv.part(split).into(x, kv)
        keys = kv.view(tokens, -1, shape.head_dim)
        self._rotate(keys, layout.positions, layer, own, 0, shape.kv_heads)
        picked, stream = pick(x, layout), pick(buffers.stream[:tokens], layout)
        q = layer.qkv.part(0, split)(picked).view(len(picked), shape.heads, shape.head_dim)
        self._rotate(q, pick(layout.positions, layout), layer, own, shape.heads, 0)
        layer.read.into(single_attention(q, keys, layout).view(len(picked), split), picked)
        wide, gate = picked.new_empty(len(picked), 2 * shape.wide), picked.new_empty(len(picked), shape.wide)
        return self._norm(self._feed_forward(layer, picked, stream, wide, gate), stream, self._final, picked)

    def _rotate(
        self,
        rows: torch.Tensor,
        positions: torch.Tensor,
        layer: PreNormLayer,
        own: LayerKind,
        heads: int,
        kv_heads: int,
    ) -> None:
        if own.theta is None:
            raise ValueError("a layer of a pre-norm model has rotary positions")
        table = self._tables[own.theta]
        rope(rows, positions, table, heads, kv_heads, weights=layer.heads_norm, eps=self._shape.eps)

    def _feed_forward(
        self, layer: PreNormLayer, x: torch.Tensor, stream: torch.Tensor, wide: torch.Tensor, gate: torch.Tensor
    ) -> torch.Tensor:
        """Add `x` to `stream`; what the gated half gives, in `x`."""
        self._norm(x, stream, layer.wide_norm, x)
        layer.up.into(x, wide)
        gated(wide, self._activation, out=gate)
        return layer.down.into(gate, x)

    def _norm(
        self, x: torch.Tensor | None, stream: torch.Tensor, weight: torch.Tensor, out: torch.Tensor
    ) -> torch.Tensor:
        return pre_norm(x, stream, weight, self._shape.eps, centred=self._centred, out=out)
