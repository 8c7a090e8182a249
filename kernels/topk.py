"""The final order of each query's candidates, from recall scores and rerank logits.

Reranked candidates by `logit + weight · evidence`, ties by recall rank, as `engine/scoring/fusion.py` has it. A search
on a GPU reranks all of them; one without a logit did not fit or failed: it stands behind, in recall's order, with its
recall score.
"""

from __future__ import annotations

import torch

from . import keys
from .checks import check
from .dispatch import fused


def topk(
    logits: torch.Tensor,
    recall_scores: torch.Tensor,
    recall_weight: float,
    k: int,
    *,
    evidence: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores float32 [queries, k] and places int32 [queries, k] of the best candidates, best first.

    logits:        float32 [queries, c]  not finite where a candidate was not reranked
    recall_scores: float32 [queries, c]  in recall's order; -inf where there is no candidate
    evidence:      float32 [queries, c]  what the first stage knows of a candidate; the recall scores if not given
    cu_seqlens:    int32 [queries · c + 1]  the pairs' layout, if pairs may have been left empty for lack of capacity:
                   those count as not reranked
    returns:       a place is a column of the inputs, so the candidate's recall rank; -1, with score -inf, where there
                   are fewer than k candidates. k is at most c, c at most 4096.
    """
    check("logits", logits, (None, None), (torch.float32,))
    queries, count = logits.shape
    check("recall_scores", recall_scores, (queries, count), (torch.float32,), logits.device)
    evidence = recall_scores if evidence is None else evidence
    check("evidence", evidence, (queries, count), (torch.float32,), logits.device)
    if cu_seqlens is not None:
        check("cu_seqlens", cu_seqlens, (queries * count + 1,), (torch.int32,), logits.device)
    if not 1 <= k <= count <= 4096:
        raise ValueError(f"k is {k} and there are {count} candidates; 1 <= k <= candidates <= 4096")
    if out is None:
        out = (logits.new_empty(queries, k), logits.new_empty(queries, k, dtype=torch.int32))
    check("out[0]", out[0], (queries, k), (torch.float32,), logits.device)
    check("out[1]", out[1], (queries, k), (torch.int32,), logits.device)
    if fused(logits):
        from .topk_triton import launch

        launch(logits, recall_scores, evidence, recall_weight, cu_seqlens, out)
        return out
    scores, places = reference(logits, recall_scores, recall_weight, k, evidence=evidence, cu_seqlens=cu_seqlens)
    return out[0].copy_(scores), out[1].copy_(places)


def reference(
    logits: torch.Tensor,
    recall_scores: torch.Tensor,
    recall_weight: float,
    k: int,
    *,
    evidence: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`topk` in PyTorch."""
    reranked = torch.isfinite(logits)
    if cu_seqlens is not None:
        reranked &= (torch.diff(cu_seqlens) > 0).view_as(logits)
    evidence = recall_scores if evidence is None else evidence
    fused_scores = torch.where(reranked, logits + recall_weight * evidence, -torch.inf)
    places = torch.arange(logits.shape[1], device=logits.device)
    ordered = keys.encode(fused_scores, places)
    ordered = torch.where(torch.isneginf(recall_scores), keys.NOTHING, ordered)
    best, chosen = keys.decode(ordered.topk(k, dim=1).values)
    scores = torch.where(torch.isneginf(best), recall_scores.gather(1, chosen.clamp(min=0)), best)
    return scores.masked_fill(chosen < 0, -torch.inf), chosen.to(torch.int32)
