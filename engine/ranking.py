"""The final order of candidates from their recall scores and whatever logits there are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .fusion import Fusion, Scores


@dataclass(frozen=True, slots=True)
class Ranking:
    """places: int64 [n] positions in recall's order, best first; scores, logits: float32 [n] by position."""

    places: npt.NDArray[np.int64]
    scores: Scores
    logits: Scores


def rank(recall_scores: Scores, evidence: Scores, logits: Scores, fusion: Fusion) -> Ranking:
    """Reranked candidates by fused score, ties by recall rank; the others (`logits` NaN) behind them in recall's order.

    recall_scores, evidence, logits: float32 [n], in recall's order. The score of a candidate that was not reranked is
    its recall score.
    """
    reranked = np.isfinite(logits)
    scores = np.where(reranked, fusion.fuse(logits, evidence), recall_scores).astype(np.float32)
    keys = np.where(reranked, -scores, np.inf)
    return Ranking(np.argsort(keys, kind="stable"), scores, logits)
