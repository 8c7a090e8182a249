"""The final order of candidates from their recall scores and whatever logits there are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .fusion import Fusion, Scores


@dataclass(frozen=True, slots=True)
class Ranking:
    """places: int64 [n] positions in recall's order, best first; scores, logits: float32 [n] by position, the logits
    those of the last layer that read a candidate."""

    places: npt.NDArray[np.int64]
    scores: Scores
    logits: Scores


def rank(
    recall_scores: Scores,
    evidence: Scores,
    logits: Scores,
    fusion: Fusion,
    early: Scores | None = None,
    again: npt.NDArray[np.bool_] | None = None,
) -> Ranking:
    """Candidates that were read `again`, by fused score; then the others that all layers read, likewise; then those
    that only an early exit read, likewise; then the rest in recall's order. Ties by recall rank.

    recall_scores, evidence, logits, early: float32 [n], in recall's order; NaN in `logits` and `early` (None: nowhere
    an early logit) where there is none; again: bool [n], None: nowhere. A candidate that was not read has its recall
    score as its score.
    """
    whole = np.isfinite(logits)
    known = logits if early is None else np.where(whole, logits, early)
    read = np.isfinite(known)
    scores = np.where(read, fusion.fuse(known, evidence), recall_scores).astype(np.float32)
    depth = read.astype(np.int8) + whole + (0 if again is None else again)
    places = np.lexsort((np.where(read, -scores, 0.0), -depth))
    return Ranking(places, scores, known)
