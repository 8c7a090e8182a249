"""The final order: the recall score and the rerank logit are both evidence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Scores = npt.NDArray[np.float32]


class Fusion(BaseModel):
    """`score = logit + recall_weight * recall_score`, with the raw logit and the raw cosine.

    Raw, so that a reranker that is sure (logits far apart) decides alone and an unsure one leaves recall's order
    standing; and so that one candidate's score does not depend on which others were reranked. `recall_weight` 0 is the
    pure cross-encoder order. The artifact carries the weight fitted at validation; a collection may override it
    (`tandem calibrate`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    recall_weight: float = Field(default=0.0, ge=0.0)
    fitted_on: str = "not fitted: pure cross-encoder order"

    def fuse(self, logits: Scores, recall_scores: Scores) -> Scores:
        """float32 [n]: the final scores of candidates with rerank `logits` and `recall_scores` (cosines), both [n]."""
        return (logits + np.float32(self.recall_weight) * recall_scores).astype(np.float32)
