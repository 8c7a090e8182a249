"""The final order: what the first stage knows of a passage and the rerank logit are both evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from .scale import Scale

Scores = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]
# SQuAD and SciFact would have liked more, but template questions (MedQuAD), whose words every answer shares, lose with
# every step; see bench/LOG.md.
LEXICAL_WEIGHT = 0.4


class Fusion(BaseModel):
    """`score = logit + recall_weight * evidence`, where
    `evidence = recall_score / recall_scale + lexical_weight * lexical_score`.

    The raw logit, cosine and lexical score, so that a reranker that is sure (logits far apart) decides alone and an
    unsure one leaves the first stage's order standing; and so that one candidate's score does not depend on which
    others were reranked. `recall_weight` 0 is the pure cross-encoder order. The artifact carries the weight fitted at
    validation; a collection may override it (`tandem calibrate`).

    `recall_scale` is 1 for a cosine. A dot product is divided by the mean square of the collection's vector lengths
    (`IndexPlan.scale`), so that it counts as the cosine that it would be between vectors of the usual length, and one
    weight fits both kinds of models. One number for all passages and questions: it changes no order of recall.

    `scale` puts what was read by an exit, or not at all, on the scale of these scores, and makes a probability of them.
    `enough` candidates, those with the best evidence, are all that a balanced search reads (see `fit.enough_of`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    recall_weight: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    lexical_weight: float = Field(default=LEXICAL_WEIGHT, ge=0.0, allow_inf_nan=False)
    recall_scale: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    scale: Scale = Scale()
    enough: int | None = Field(default=None, ge=1)
    fitted_on: str = "not fitted: pure cross-encoder order"

    def evidence(self, recall_scores: Scores, lexical_scores: Scores | None) -> Scores:
        """float32 [n]: what the first stage knows of candidates: recall's scores and lexical scores, both [n]; None:
        nothing is known of words."""
        known = recall_scores / np.float32(self.recall_scale)
        words = 0.0 if lexical_scores is None else np.float32(self.lexical_weight) * lexical_scores
        return (known + words).astype(np.float32)

    def relevance(self, scores: Scores) -> npt.NDArray[np.float64] | None:
        """float64 [n], 0 to 1: how likely hits with these final `scores` answer; None where nothing was fitted."""
        return None if self.scale.relevance is None else self.scale.relevance.of(scores)

    def fuse(self, logits: Scores, evidence: Scores) -> Scores:
        """float32 [n]: the final scores of candidates with rerank `logits` and first-stage `evidence`, both [n]."""
        return (logits + np.float32(self.recall_weight) * evidence).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Scored:
    """What the cross-encoder made of candidates, in the order given.

    logits: float32 [n] after all layers, NaN for a candidate that did not get so far
    early:  float32 [n] the same as expected after the early exit's layers (see `scale`), likewise
    again:  bool [n] the candidates that were read again: `logits` has both readings together
    """

    logits: Scores
    early: Scores
    again: npt.NDArray[np.bool_]

    @property
    def finalists(self) -> int:
        """Candidates that all layers read."""
        return int(np.isfinite(self.logits).sum())

    @property
    def reranked(self) -> int:
        """Candidates that some layers read."""
        return int((np.isfinite(self.logits) | np.isfinite(self.early)).sum())

    @property
    def reread(self) -> int:
        """Candidates that were read again."""
        return int(self.again.sum())

    def among(self, count: int) -> Scored:
        """These as the first of `count` candidates, of which no other was read."""
        rest = Scored.nothing(count - len(self.logits))
        return Scored(
            np.concatenate([self.logits, rest.logits]),
            np.concatenate([self.early, rest.early]),
            np.concatenate([self.again, rest.again]),
        )

    @classmethod
    def nothing(cls, count: int) -> Scored:
        """No candidate of `count` was read yet; whoever reads some fills the arrays in."""
        return cls.of(np.full(count, np.nan, dtype=np.float32))

    @classmethod
    def of(cls, logits: Scores, early: Scores | None = None, again: npt.NDArray[np.bool_] | None = None) -> Scored:
        """Candidates with `logits`; without `early` no exit read any, without `again` none was read twice."""
        unknown = np.full(len(logits), np.nan, dtype=np.float32)
        return cls(logits, unknown if early is None else early, np.zeros(len(logits), bool) if again is None else again)


def best_of(logits: Scores, evidence: Scores, fusion: Fusion, count: int) -> Places:
    """int64 [at most count]: places of the best by fused score, best first, of candidates with `logits` [n] (NaN: not
    read) and `evidence` [n]."""
    known = np.flatnonzero(np.isfinite(logits))
    scores = fusion.fuse(logits[known], evidence[known])
    return known[np.argsort(-scores, kind="stable")[:count]]


@dataclass(frozen=True, slots=True)
class Ranking:
    """places: int64 [n] positions in recall's order, best first; scores, logits: float32 [n] by position, the logits
    those after all layers, or expected by an early exit, NaN for a candidate that was not read."""

    places: npt.NDArray[np.int64]
    scores: Scores
    logits: Scores


def rank(evidence: Scores, scored: Scored, fusion: Fusion) -> Ranking:
    """Candidates by their final scores, which are on one scale; ties by recall rank.

    A candidate that was not read has the logit that is expected of its evidence: so a bad one that was read falls
    behind a promising one that was not. Where nothing was fitted for that, it has the lowest logit that was read, and
    what an exit alone read stands behind what all layers read. Where nothing was read either, the evidence is the
    score.

    evidence: float32 [n], in recall's order, as `scored` is
    """
    whole, begun = np.isfinite(scored.logits), np.isfinite(scored.early)
    unread = fusion.scale.unread
    if unread is None and not (whole | begun).any():
        return by_evidence(evidence)
    early = scored.early if fusion.scale.exits else _behind(scored, evidence, fusion)
    logits = np.where(whole, scored.logits, early)
    expected = np.nanmin(logits) if unread is None else unread.of(evidence)
    scores = fusion.fuse(np.where(whole | begun, logits, expected), evidence)
    return Ranking(np.argsort(-scores, kind="stable"), scores, np.where(whole, scored.logits, scored.early))


def by_evidence(evidence: Scores) -> Ranking:
    """Candidates that the cross-encoder did not read, and was not to read."""
    return Ranking(np.argsort(-evidence, kind="stable"), evidence, np.full(len(evidence), np.nan, dtype=np.float32))


def _behind(scored: Scored, evidence: Scores, fusion: Fusion) -> Scores:
    """float32 [n]: an exit's logits, so much lower that no candidate which it alone read stands before another."""
    whole = np.isfinite(scored.logits)
    alone = np.isfinite(scored.early) & ~whole
    if not whole.any() or not alone.any():
        return scored.early
    lowest = fusion.fuse(scored.logits[whole], evidence[whole]).min()
    too_high = fusion.fuse(scored.early[alone], evidence[alone]).max() - lowest
    return scored.early - np.float32(max(0.0, float(too_high)))
