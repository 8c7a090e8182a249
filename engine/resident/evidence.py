"""The lexical score on the device (see `engine/lexical.py`), from token ids that are packed for the reranker anyway.

Rarities of the query's terms come from the host, where the corpus's frequencies are; repeats and lengths are counted
here. A passage that the reranker reads cut is counted as it is read, which the host does not do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...kernels.layout import sequence_of
from ...kernels.pack import Pairs
from ..lexical import K1, B

TERMS = 64
"""Distinct ids of a query that count: the rarest, should a query have more."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the queries look for.

    ids:         int32 [queries, TERMS]    distinct token ids, -1 where a query has fewer
    shares:      float32 [queries, TERMS]  inverse document frequencies, of sum 1 a query; 0 beside an id of -1
    mean_length: tokens of a passage, on average
    """

    ids: torch.Tensor
    shares: torch.Tensor
    mean_length: float


def lexical(pairs: Pairs, passage_segment: int, lengths: torch.Tensor, terms: Terms) -> torch.Tensor:
    """float32 [queries · k] from 0 to 1. `passage_segment` marks a passage's tokens; [SEP] is no query's term."""
    candidates, capacity = pairs.layout.sequences, pairs.layout.capacity
    queries = len(terms.ids)
    sequence = sequence_of(pairs.layout.cu_seqlens, capacity)
    query = (sequence // (candidates // queries)).clamp(max=queries - 1)
    passage = (sequence < candidates) & (pairs.segments == passage_segment)
    found = (pairs.ids[:, None] == terms.ids[query]) & passage[:, None]
    counts = torch.zeros(candidates + 1, terms.ids.shape[1], dtype=torch.float32, device=pairs.ids.device)
    counts.index_add_(0, sequence, found.float())
    counts = counts[:candidates].view(queries, -1, terms.ids.shape[1])
    norm = K1 * (1.0 - B + B * lengths.view(queries, -1, 1).float() / max(terms.mean_length, 1.0))
    return (counts / (counts + norm) * terms.shares[:, None]).sum(-1).view(-1)
