"""Densest windows on the device (see `scoring.lexical`), from token ids that are packed for the reranker anyway.

Rarities of the query's terms come from the host, where the corpus's frequencies are. A passage that the reranker reads
cut is looked at as it is read, which the host does not do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...kernels.layout import sequence_of
from ...kernels.pack import PairForm, Pairs, longest_first
from ..scoring.lexical import HALF

TERMS = 64
"""Distinct ids of a query that count: the rarest, should a query have more."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the queries look for.

    ids:    int32 [queries, TERMS]    distinct token ids, -1 where a query has fewer
    shares: float32 [queries, TERMS]  inverse document frequencies, of sum 1 a query; 0 beside an id of -1
    """

    ids: torch.Tensor
    shares: torch.Tensor


def densest_windows(
    pairs: Pairs, form: PairForm, asked: torch.Tensor, lengths: torch.Tensor, terms: Terms
) -> torch.Tensor:
    """float32 [queries · k] from 0 to 1, for `pairs` of `form`, k of each query in turn.

    asked:   int64 [queries]      tokens of the queries, special tokens not among them
    lengths: int64 [queries · k]  tokens of the stored passages
    """
    queries, width = terms.ids.shape
    halves = _held(pairs, form, asked, lengths, terms).view(queries, -1, form.room // HALF + 2, width)
    windows = (halves[:, :, :-1] + halves[:, :, 1:] > 0).float()
    return (windows * terms.shares[:, None, None]).sum(-1).amax(-1).view(-1)


def _held(pairs: Pairs, form: PairForm, asked: torch.Tensor, lengths: torch.Tensor, terms: Terms) -> torch.Tensor:
    """float32 [queries · k, room // HALF + 2, TERMS]: how often each half window of each passage holds each term."""
    bounds, capacity = pairs.layout.cu_seqlens, pairs.layout.capacity
    candidates, queries = len(lengths), len(terms.ids)
    each = candidates // queries
    kept_query, kept = longest_first(asked[:, None].expand(-1, each).reshape(-1), lengths, form.room)
    begin = bounds[:-1] + (form.parts[0] + form.parts[1]) + kept_query
    sequence = sequence_of(bounds, capacity)
    owner = sequence.clamp(max=candidates - 1)
    place = torch.arange(capacity, device=bounds.device) - begin[owner]
    passage = (sequence < candidates) & (place >= 0) & (place < kept[owner])
    found = (pairs.ids[:, None] == terms.ids[owner // each]) & passage[:, None]
    halves = form.room // HALF + 2
    held = torch.zeros(candidates * halves, terms.ids.shape[1], dtype=torch.float32, device=bounds.device)
    return held.index_add_(0, owner * halves + place.clamp(0, form.room) // HALF, found.float())
