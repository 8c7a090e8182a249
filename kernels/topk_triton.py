"""The final order: a program a query, its candidates' keys sorted in registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .keys_triton import NOTHING, encode, index_of, score_of


def launch(
    logits: torch.Tensor,
    recall_scores: torch.Tensor,
    evidence: torch.Tensor,
    recall_weight: float,
    cu_seqlens: torch.Tensor | None,
    out: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """Fill `out`: see `topk.topk`."""
    queries, count = logits.shape
    k = out[0].shape[1]
    size = max(16, triton.next_power_of_2(count))
    _topk[(queries,)](
        logits, recall_scores, evidence, logits if cu_seqlens is None else cu_seqlens, *out, float(recall_weight),
        count, k,
        SIZE=size, KEEP=max(16, triton.next_power_of_2(k)), LENGTHS=cu_seqlens is not None,
        num_warps=min(8, max(1, size // 128)), enable_fp_fusion=False,  # the score is rounded as the host rounds it
    )  # fmt: skip


@triton.jit
def _topk(
    logits_ptr, recall_ptr, evidence_ptr, cu_ptr, scores_ptr, places_ptr, weight, count, k,
    SIZE: tl.constexpr, KEEP: tl.constexpr, LENGTHS: tl.constexpr,
):  # fmt: skip
    query = tl.program_id(0)
    place = tl.arange(0, SIZE)
    inside = place < count
    at = query * count + place
    logit = tl.load(logits_ptr + at, mask=inside, other=float("nan"))
    recall = tl.load(recall_ptr + at, mask=inside, other=float("-inf"))
    evidence = tl.load(evidence_ptr + at, mask=inside, other=0.0)
    reranked = tl.abs(logit) < float("inf")  # false for NaN too
    if LENGTHS:
        start = tl.load(cu_ptr + at, mask=inside, other=0)
        reranked &= tl.load(cu_ptr + at + 1, mask=inside, other=0) > start
    score = tl.where(reranked, logit + weight * evidence, float("-inf"))
    key = tl.where(recall == float("-inf"), NOTHING, encode(score, place))

    best = tl.topk(key, KEEP)
    chosen = index_of(best)
    score = score_of(best)
    fallback = tl.load(recall_ptr + query * count + chosen, mask=chosen >= 0, other=float("-inf"))
    rank = tl.arange(0, KEEP)
    tl.store(scores_ptr + query * k + rank, tl.where(score == float("-inf"), fallback, score), mask=rank < k)
    tl.store(places_ptr + query * k + rank, chosen.to(tl.int32), mask=rank < k)
