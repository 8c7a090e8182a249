"""What is traced: token ids in, one vector or one score a sequence out. Pooling, Dense layers and heads are inside.

On a CPU each sequence runs alone, and there is no mask; a GPU pads, and the mask says where a row ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..graph.head import mark_head

Hidden = torch.Tensor
Mask = torch.Tensor | None


class Embedder(torch.nn.Module):
    """[batch, length] ids → [batch, d] vectors, of length 1 where `normalize`."""

    def __init__(
        self, body: torch.nn.Module, modes: Sequence[str], rest: Sequence[torch.nn.Module], *,
        dimensions: int | None, normalize: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.body = body
        self.rest = torch.nn.ModuleList(rest)
        self._modes = tuple(modes)
        self._dimensions = dimensions
        self._normalize = normalize

    def forward(
        self, input_ids: torch.Tensor, attention_mask: Mask = None, token_type_ids: Mask = None
    ) -> torch.Tensor:
        """The vectors; without a mask every sequence is whole."""
        hidden = mark_head(self.body(**_given(input_ids, attention_mask, token_type_ids)).last_hidden_state)
        vectors = pooled(hidden, attention_mask, self._modes)
        vectors = through(self.rest, vectors)["sentence_embedding"]
        if self._dimensions is not None:
            vectors = vectors[:, : self._dimensions]
        return torch.nn.functional.normalize(vectors, dim=1) if self._normalize else vectors


class Classifier(torch.nn.Module):
    """[batch, length] ids → [batch] logits of a model with a head of its own."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: Mask = None, token_type_ids: Mask = None
    ) -> torch.Tensor:
        """The logit, or the difference of two."""
        return one_score(self.model(**_given(input_ids, attention_mask, token_type_ids)).logits)


class LastTokenScorer(torch.nn.Module):
    """[batch, length] ids → [batch] scores of a decoder: its last token's state by `rows`.

    rows: float32 [labels, d], a classifier's rows or rows of the vocabulary
    """

    def __init__(self, body: torch.nn.Module, rows: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.body = body
        joined = rows if len(rows) == 1 else (rows[1] - rows[0])[None]
        self.rows = torch.nn.Parameter(joined.detach().clone().float(), requires_grad=False)
        offset = torch.zeros(1) if bias is None else bias if len(bias) == 1 else (bias[1] - bias[0])[None]
        self.bias = torch.nn.Parameter(offset.detach().clone().float(), requires_grad=False)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: Mask = None, token_type_ids: Mask = None
    ) -> torch.Tensor:
        """The score of each sequence."""
        hidden = mark_head(self.body(**_given(input_ids, attention_mask, token_type_ids)).last_hidden_state)
        last = pooled(hidden, attention_mask, ("lasttoken",))
        return torch.nn.functional.linear(last, self.rows, self.bias)[:, 0]


class ModularScorer(torch.nn.Module):
    """[batch, length] ids → [batch] scores of a cross-encoder built of a transformer, a pooling and more modules."""

    def __init__(self, body: torch.nn.Module, modes: Sequence[str], rest: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.body = body
        self.rest = torch.nn.ModuleList(rest)
        self._modes = tuple(modes)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: Mask = None, token_type_ids: Mask = None
    ) -> torch.Tensor:
        """The score, or the difference of two."""
        hidden = mark_head(self.body(**_given(input_ids, attention_mask, token_type_ids)).last_hidden_state)
        return one_score(through(self.rest, pooled(hidden, attention_mask, self._modes))["scores"])


def _given(input_ids: torch.Tensor, attention_mask: Mask, token_type_ids: Mask) -> dict[str, torch.Tensor]:
    """What there is, by transformers' names."""
    named = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def one_score(logits: torch.Tensor) -> torch.Tensor:
    """[batch] of [batch, labels]: of two labels the difference, which orders as their softmax does."""
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


def through(modules: Sequence[torch.nn.Module] | torch.nn.ModuleList, vectors: torch.Tensor) -> dict[str, Any]:
    """sentence-transformers' features after its `modules` behind the pooling."""
    features: dict[str, Any] = {"sentence_embedding": vectors}
    for module in modules:
        features = module(features)
    return features


def pooled(hidden: Hidden, mask: Mask, modes: Sequence[str]) -> torch.Tensor:
    """[batch, d], or modes · d: the token vectors [batch, length, d] as sentence-transformers' Pooling joins them.

    mask: int64 [batch, length], 1 where a token is, all on the left; None: everywhere
    """
    return torch.cat([_POOLINGS[mode](hidden, mask) for mode in modes], dim=-1)


def _weights(hidden: Hidden, mask: Mask) -> torch.Tensor:
    return hidden.new_ones(hidden.shape[:2])[..., None] if mask is None else mask[..., None].to(hidden.dtype)


def _mean(hidden: Hidden, mask: Mask) -> torch.Tensor:
    if mask is None:
        return hidden.mean(dim=1)
    weights = _weights(hidden, mask)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def _mean_by_root(hidden: Hidden, mask: Mask) -> torch.Tensor:
    weights = _weights(hidden, mask)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).sqrt()


def _weighted_mean(hidden: Hidden, mask: Mask) -> torch.Tensor:
    places = torch.arange(1, hidden.shape[1] + 1, dtype=hidden.dtype)[None, :, None]
    weights = _weights(hidden, mask) * places
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def _max(hidden: Hidden, mask: Mask) -> torch.Tensor:
    if mask is not None:
        hidden = hidden.masked_fill(mask[..., None] == 0, torch.finfo(hidden.dtype).min)
    return hidden.amax(dim=1)


def _first(hidden: Hidden, mask: Mask) -> torch.Tensor:
    return hidden[:, 0]


def _last(hidden: Hidden, mask: Mask) -> torch.Tensor:
    if mask is None:
        return hidden[:, -1]
    places = (mask.sum(dim=1) - 1)[:, None, None].expand(-1, 1, hidden.shape[2])
    return hidden.gather(1, places)[:, 0]


_POOLINGS: dict[str, Callable[[Hidden, Mask], torch.Tensor]] = {
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_by_root,
    "weightedmean": _weighted_mean,
    "max": _max,
    "cls": _first,
    "lasttoken": _last,
}
