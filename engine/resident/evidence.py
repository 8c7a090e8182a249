"""What recall says of a candidate beside the cross-encoder's logit: `score = logit + recall_weight * evidence`.

    evidence = cosine + lexical_weight * lexical

`lexical` is BM25 as a share of the most that a passage could have (Robertson & Zaragoza 2009), computed from the token
ids that are packed for the reranker anyway. Rarities of the query's terms come from the host, where the corpus's
frequencies are; repeats and lengths are counted here. A passage that the reranker reads cut is counted as it is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...kernels.layout import sequence_of
from ...kernels.pack import Pairs

TERMS = 64
"""Distinct ids of a query that count: the rarest, should a query have more."""
K1, B = 0.9, 0.4


@dataclass(frozen=True, slots=True)
class Terms:
    """What the queries look for.

    ids:         int32 [queries, TERMS]    distinct token ids, -1 where a query has fewer
    shares:      float32 [queries, TERMS]  inverse document frequencies, of sum 1 a query; 0 beside an id of -1
    weight:      how much the lexical score counts beside a cosine
    mean_length: tokens of a passage, on average
    """

    ids: torch.Tensor
    shares: torch.Tensor
    weight: float
    mean_length: float


def evidence(
    cosines: torch.Tensor, pairs: Pairs, passage_segment: int, lengths: torch.Tensor, terms: Terms | None
) -> torch.Tensor:
    """float32 [queries, k]: the evidence for each candidate; -inf where there is no candidate.

    cosines: float32 [queries, k], -inf for no candidate; lengths: [queries · k] tokens of the stored passages
    """
    if terms is None:
        return cosines
    return cosines + terms.weight * lexical(pairs, passage_segment, lengths, terms).view_as(cosines)


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
