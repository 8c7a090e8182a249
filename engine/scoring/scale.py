"""One scale for every passage of an answer, whether the cross-encoder read all of it, a part, or nothing.

The scale is the logit after all layers. A passage that was read less has the logit that is *expected* of it, by lines
that were fitted at validation: of an early exit's logit and the first stage's evidence, or of the evidence alone. From
the final score follows the relevance, a probability, by a logistic curve (Platt 1999).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Scores = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating]
FINAL_HITS = 10
"""Of each question, the best of the final order that the relevance is fitted on: what people see."""
# Of each coefficient, in units of its column: keeps a curve finite where every hit is relevant, or none.
_RIDGE = 1e-3
_NEWTON_STEPS = 50
_BINS = 10


def logistic(logit: float) -> float:
    """1 / (1 + e^-x) without overflow."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    small = math.exp(logit)
    return small / (1.0 + small)


class _Fitted(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExpectedLogit(_Fitted):
    """`offset + logit * exit_logit + evidence * evidence`; `logit` is 0 of what no exit read."""

    offset: float = Field(allow_inf_nan=False)
    logit: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    evidence: float = Field(ge=0.0, allow_inf_nan=False)

    def of(self, evidence: Scores, logits: Scores | None = None) -> Scores:
        """float32 [n]: logits after all layers expected of n candidates with this `evidence`, and with an exit's
        `logits` where one read them."""
        known = np.float32(self.offset) + np.float32(self.evidence) * evidence
        return known if logits is None else known + np.float32(self.logit) * logits


class Relevance(_Fitted):
    """`sigmoid(offset + slope * score)`: how likely a hit with this final score answers the question."""

    offset: float = Field(allow_inf_nan=False)
    slope: float = Field(ge=0.0, allow_inf_nan=False)

    def of(self, scores: Floats) -> npt.NDArray[np.float64]:
        """float64 [n], 0 to 1, rising with the scores."""
        found: npt.NDArray[np.float64] = 0.5 * (
            1.0 + np.tanh(0.5 * (self.offset + self.slope * np.asarray(scores, dtype=np.float64)))
        )
        return found


class Scale(_Fitted):
    """What was fitted for one pair of models; empty where nothing was."""

    unread: ExpectedLogit | None = None
    """For candidates that the cross-encoder did not read."""
    exits: dict[int, ExpectedLogit] = Field(default_factory=dict)
    """By the layer of an early exit, 1 is the first layer: for candidates that it alone read."""
    relevance: Relevance | None = None

    def after_exit(self, layer: int, logits: Scores, evidence: Scores) -> Scores:
        """float32 [n]: expected of candidates that the exit after `layer` read; its own logits where nothing was
        fitted for it."""
        line = self.exits.get(layer)
        return logits if line is None else line.of(evidence, logits)


@dataclass(frozen=True, slots=True)
class ReadQuestions:
    """ReadQuestions questions of one kind: for each, float [candidates] arrays of one order.

    logits: after all layers     evidence: see `Fusion`     gains: judgements, 0 is not relevant
    exits: by layer, the exit's logits
    """

    logits: Sequence[Floats]
    evidence: Sequence[Floats]
    gains: Sequence[Floats]
    exits: Mapping[int, Sequence[Floats]]


def fit_scale(domains: Sequence[ReadQuestions], recall_weight: float) -> Scale:
    """The scale for a final order with `recall_weight`; every domain has the same say, whatever its size.

    Expected logits are least squares over all candidates. The relevance is a logistic regression on the FINAL_HITS best
    of each question.
    """
    shares = [1.0 / sum(map(len, domain.logits)) for domain in domains]
    weights = np.concatenate([np.full(sum(map(len, d.logits)), s) for d, s in zip(domains, shares, strict=True)])
    evidence, logits = (_joined([getattr(d, name) for d in domains]) for name in ("evidence", "logits"))
    layers = set.intersection(*(set(domain.exits) for domain in domains))
    exits = {}
    for layer in sorted(layers):
        begun = _joined([domain.exits[layer] for domain in domains])
        offset, by_logit, by_evidence = _least_squares([begun, evidence], logits, weights)
        exits[layer] = ExpectedLogit(offset=offset, logit=by_logit, evidence=by_evidence)
    offset, by_evidence = _least_squares([evidence], logits, weights)
    scores, relevant, counted = _final_hits(domains, recall_weight)
    return Scale(
        unread=ExpectedLogit(offset=offset, evidence=by_evidence),
        exits=exits,
        relevance=_logistic(scores, relevant, counted),
    )


def calibration_error(probabilities: Floats, relevant: Floats) -> float:
    """Expected calibration error (Guo et al. 2017): the mean distance, over ten bins of `probabilities` with equally
    many in each, between what a bin promises and the share of it that is `relevant` (1 or 0)."""
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, _BINS) if len(part)]
    gaps = [len(part) * abs(probabilities[part].mean() - relevant[part].mean()) for part in parts]
    return float(sum(gaps) / len(order)) if len(order) else 0.0


def final_hits(domain: ReadQuestions, recall_weight: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """float64 [hits]: the scores of each question's FINAL_HITS best, and whether each is relevant, 1 or 0."""
    scores, relevant = [], []
    for logits, evidence, gains in zip(domain.logits, domain.evidence, domain.gains, strict=True):
        final = np.asarray(logits, dtype=np.float64) + recall_weight * np.asarray(evidence, dtype=np.float64)
        best = np.argsort(-final, kind="stable")[:FINAL_HITS]
        scores.append(final[best])
        relevant.append(np.asarray(gains)[best] > 0)
    return np.concatenate(scores), np.concatenate(relevant).astype(np.float64)


def _final_hits(
    domains: Sequence[ReadQuestions], recall_weight: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    found = [final_hits(domain, recall_weight) for domain in domains]
    weights = [np.full(len(scores), 1.0 / len(scores)) for scores, _ in found]
    return np.concatenate([s for s, _ in found]), np.concatenate([r for _, r in found]), np.concatenate(weights)


def _joined(domains: Sequence[Sequence[Floats]]) -> npt.NDArray[np.float64]:
    return np.concatenate([np.asarray(each, dtype=np.float64) for domain in domains for each in domain])


def _least_squares(
    columns: Sequence[npt.NDArray[np.float64]], wanted: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> list[float]:
    """Offset and slopes, none below zero: a column that would count against a passage is left out."""
    kept = list(range(len(columns)))
    while True:
        table = np.column_stack([np.ones(len(wanted)), *(columns[place] for place in kept)])
        root = np.sqrt(weights)[:, None]
        found = np.linalg.lstsq(table * root, wanted * root[:, 0], rcond=None)[0]
        negative = [place for place, slope in zip(kept, found[1:], strict=True) if slope < 0]
        if not negative:
            slopes = dict(zip(kept, found[1:], strict=True))
            return [float(found[0]), *(float(slopes.get(place, 0.0)) for place in range(len(columns)))]
        kept.remove(negative[0])


def _logistic(
    scores: npt.NDArray[np.float64], relevant: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> Relevance:
    """Newton's method on the weighted log likelihood of standardised scores, with a small ridge on the slope.

    Platt's targets (a little inside 0 and 1) keep the curve finite where all hits or none are relevant.
    """
    positive = relevant.sum()
    target = np.where(relevant > 0, (positive + 1) / (positive + 2), 1 / (len(relevant) - positive + 2))
    mean, spread = float(scores.mean()), float(scores.std()) or 1.0
    table = np.column_stack([np.ones(len(scores)), (scores - mean) / spread])
    weights = weights / weights.sum()
    ridge = np.diag([0.0, _RIDGE])
    found = np.zeros(2)
    for _ in range(_NEWTON_STEPS):
        likely = 0.5 * (1.0 + np.tanh(0.5 * table @ found))
        slope = table.T @ (weights * (target - likely)) - ridge @ found
        curve = (table * (weights * likely * (1 - likely))[:, None]).T @ table + ridge + 1e-9 * np.eye(2)
        step = np.linalg.solve(curve, slope)
        found = found + step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    if found[1] <= 0:  # the scores say nothing: every hit is as likely as all of them
        base = float(weights @ target)
        return Relevance(offset=float(np.log(base / (1 - base))), slope=0.0)
    return Relevance(offset=float(found[0] - found[1] * mean / spread), slope=float(found[1] / spread))
