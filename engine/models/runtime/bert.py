"""A BERT encoder over packed sequences, written with `kernels`: on CUDA their Triton form, elsewhere the references.

Per layer: one product for queries, keys and values; attention; product, then residual and norm in one pass; product
with GELU; product, residual and norm. Where a model is read at its first token (every cross-encoder, some
bi-encoders), the last layer computes keys and values of all tokens and everything else of that token alone, which is
exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ....kernels.add_norm import add_norm
from ....kernels.attention import attention, first_attention, first_tokens
from ....kernels.embed_norm import embed_norm
from ....kernels.layout import Layout
from ....kernels.linear_gelu import linear_gelu
from ....kernels.pool import pool
from .base import Head

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a BERT: `width` of hidden states, `wide` of the feed-forward."""

    layers: int
    heads: int
    width: int
    wide: int
    eps: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """From the `config.json` of a Hugging Face BERT."""
        return cls(
            config["num_hidden_layers"],
            config["num_attention_heads"],
            config["hidden_size"],
            config["intermediate_size"],
            config["layer_norm_eps"],
        )

    @property
    def token_bytes(self) -> int:
        """Bytes in FP16 that `Buffers` holds for a token."""
        return 2 * (6 * self.width + self.wide)


@dataclass(frozen=True, slots=True)
class _Norm:
    weight: torch.Tensor
    beta: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Linear:
    weight: torch.Tensor
    bias: torch.Tensor

    def into(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """x weightᵀ + bias."""
        return torch.addmm(self.bias, x, self.weight.t(), out=out)

    def product(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """x weightᵀ; whoever follows adds the bias."""
        return torch.mm(x, self.weight.t(), out=out)


@dataclass(frozen=True, slots=True)
class _Layer:
    qkv: _Linear
    q: _Linear
    kv: _Linear
    read: _Linear
    read_norm: _Norm
    up: _Linear
    down: _Linear
    down_norm: _Norm


class Buffers:
    """Activations of up to `capacity` tokens, taken once; a smaller batch uses their first rows."""

    def __init__(self, shape: Shape, capacity: int, dtype: torch.dtype, device: torch.device | str) -> None:
        def rows(width: int) -> torch.Tensor:
            return torch.zeros(capacity, width, dtype=dtype, device=device)

        self.capacity = capacity
        self.hidden = rows(shape.width)
        self.qkv = rows(3 * shape.width)
        self.read = rows(shape.width)
        self.narrow = rows(shape.width)
        self.wide = rows(shape.wide)


class Bert:
    """Weights of an encoder and its head. Nothing in a forward pass waits for the device or depends on values."""

    def __init__(
        self, tensors: Tensors, shape: Shape, head: Head, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        """`tensors` by the names of Hugging Face's BertModel or BertForSequenceClassification.

        Raises KeyError naming a tensor that is missing.
        """
        self.shape = shape
        self.head = head
        self.dtype = dtype
        self.device = torch.device(device)
        root = "bert." if any(name.startswith("bert.") for name in tensors) else ""

        def take(name: str, kind: torch.dtype = dtype, prefix: str = root) -> torch.Tensor:
            return tensors[prefix + name].to(device=device, dtype=kind).contiguous()

        def linear(name: str) -> _Linear:
            return _Linear(take(f"{name}.weight"), take(f"{name}.bias"))

        def norm(name: str) -> _Norm:
            return _Norm(take(f"{name}.weight"), take(f"{name}.bias"))

        self._word = take("embeddings.word_embeddings.weight")
        self._position = take("embeddings.position_embeddings.weight")
        self._segment = take("embeddings.token_type_embeddings.weight")
        self._embedded = norm("embeddings.LayerNorm")
        self._layers = [_layer(f"encoder.layer.{number}", linear, norm, shape.width) for number in range(shape.layers)]
        if head == "logit":
            self._pooler = linear("pooler.dense")
            # A logit leaves in float32: half a thousand steps of half precision would make ties.
            self._classifier = _Linear(
                take("classifier.weight", torch.float32, ""), take("classifier.bias", torch.float32, "")
            )

    @property
    def vocabulary(self) -> int:
        """Token ids that have an embedding; the kernel reads whatever memory a larger one points to."""
        return len(self._word)

    @property
    def positions(self) -> int:
        """Tokens of the longest sequence, likewise."""
        return len(self._position)

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

        ids: int32 [capacity]; segments: uint8 [capacity] or None; `buffers` must hold the capacity. `normalize`: unit
        vectors. What an empty sequence gets is finite and means nothing.
        """
        hidden = self._embed(ids, segments, layout, buffers)
        for layer in self._layers[:-1]:
            hidden = self._whole(layer, hidden, layout, buffers)
        if self.head == "mean":
            hidden = self._whole(self._layers[-1], hidden, layout, buffers)
            return pool(hidden, layout.cu_seqlens, normalize=normalize)
        first = self._first(self._layers[-1], hidden, layout, buffers)
        if self.head == "cls":
            vectors = first.float()
            return torch.nn.functional.normalize(vectors, dim=1, eps=1e-12) if normalize else vectors
        pooled = torch.tanh(torch.addmm(self._pooler.bias, first, self._pooler.weight.t()))
        return torch.addmm(self._classifier.bias, pooled.float(), self._classifier.weight.t())[:, 0]

    def _embed(
        self, ids: torch.Tensor, segments: torch.Tensor | None, layout: Layout, buffers: Buffers
    ) -> torch.Tensor:
        known = segments if len(self._segment) > 1 else None
        tables, norm = (self._word, self._position, self._segment), self._embedded
        out = buffers.hidden[: layout.capacity]
        return embed_norm(ids, layout.positions, known, *tables, norm.weight, norm.beta, self.shape.eps, out=out)

    def _whole(self, layer: _Layer, hidden: torch.Tensor, layout: Layout, buffers: Buffers) -> torch.Tensor:
        """One layer of every token; the result replaces `hidden`."""
        tokens, heads = layout.capacity, self.shape.heads
        split = self.shape.width // heads
        qkv = layer.qkv.into(hidden, buffers.qkv[:tokens]).view(tokens, 3, heads, split)
        read = attention(qkv, layout, out=buffers.read[:tokens].view(tokens, heads, split)).view(tokens, -1)
        return self._rest(layer, read, hidden, buffers.narrow[:tokens], buffers.wide[:tokens])

    def _first(self, layer: _Layer, hidden: torch.Tensor, layout: Layout, buffers: Buffers) -> torch.Tensor:
        """[n, width]: the last layer of each sequence's first token."""
        tokens, heads, count = layout.capacity, self.shape.heads, layout.sequences
        split = self.shape.width // heads
        # The first two thirds of the buffer, row after row: [capacity, 2 width] without a gap.
        flat = buffers.qkv.view(-1)[: tokens * 2 * self.shape.width].view(tokens, -1)
        kv = layer.kv.into(hidden, flat).view(tokens, 2, heads, split)
        first = first_tokens(hidden, layout)
        q = layer.q.into(first, torch.empty_like(first)).view(count, heads, split)
        read = first_attention(q, kv, layout).view(count, -1)
        return self._rest(layer, read, first, torch.empty_like(first), first.new_empty(count, self.shape.wide))

    def _rest(
        self, layer: _Layer, read: torch.Tensor, residual: torch.Tensor, narrow: torch.Tensor, wide: torch.Tensor
    ) -> torch.Tensor:
        eps = self.shape.eps
        layer.read.product(read, narrow)
        norm = layer.read_norm
        add_norm(narrow, residual, layer.read.bias, norm.weight, norm.beta, eps, out=residual)
        linear_gelu(residual, layer.up.weight, layer.up.bias, out=wide)
        layer.down.product(wide, narrow)
        norm = layer.down_norm
        return add_norm(narrow, residual, layer.down.bias, norm.weight, norm.beta, eps, out=residual)


def _layer(prefix: str, linear: Any, norm: Any, width: int) -> _Layer:
    parts = [linear(f"{prefix}.attention.self.{name}") for name in ("query", "key", "value")]
    qkv = _Linear(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))
    return _Layer(
        qkv=qkv,
        q=_Linear(qkv.weight[:width], qkv.bias[:width]),
        kv=_Linear(qkv.weight[width:], qkv.bias[width:]),
        read=linear(f"{prefix}.attention.output.dense"),
        read_norm=norm(f"{prefix}.attention.output.LayerNorm"),
        up=linear(f"{prefix}.intermediate.dense"),
        down=linear(f"{prefix}.output.dense"),
        down_norm=norm(f"{prefix}.output.LayerNorm"),
    )
