"""The weights of the final order, fitted on judged questions, and the measure they are fitted by: nDCG@10."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .fusion import LEXICAL_WEIGHT, Fusion

DEPTH = 10
LEXICAL_WEIGHTS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
# Weights tried by `fit_fusion`: none, then 0.25 to 2048 in steps of a fourth of an octave. Cosines of one query's
# candidates lie within 0.1 to 0.5, logits of a trained reranker within 5 to 15, so the best is well inside.
WEIGHTS = (0.0, *(float(2.0 ** (step / 4)) for step in range(-8, 45)))

COUNTS = (20, 30, 40, 60, 80, 100)
LITTLE = 0.002
"""nDCG@10 that nobody sees: a question in two hundred whose answer falls from the first place to the third or so."""

Questions = Sequence[npt.NDArray[np.floating]]


@dataclass(frozen=True, slots=True)
class Domain:
    """Judged questions of one kind: for each, float [candidates] in recall's order.

    logits: of the reranker; recall_scores: cosines; evidence: see `Fusion`; gains: judgements, 0 is not relevant
    """

    logits: Questions
    recall_scores: Questions
    evidence: Questions
    gains: Questions

    def fused(self, weight: float) -> list[npt.NDArray[np.floating]]:
        """The final scores with the evidence weighted so."""
        return [logit + weight * known for logit, known in zip(self.logits, self.evidence, strict=True)]

    def read_first(self, count: int, weight: float) -> list[npt.NDArray[np.floating]]:
        """The same with only the `count` candidates with the best evidence read, and the others behind them."""
        places = [np.argsort(np.argsort(-known, kind="stable"), kind="stable") for known in self.evidence]
        return [
            np.where(place < count, score, -np.inf)
            for place, score in zip(places, self.fused(weight), strict=True)
        ]  # fmt: skip

    def ndcg(self, weight: float) -> float:
        """nDCG@10 with the evidence weighted so."""
        return mean_ndcg(self.fused(weight), self.gains)

    @property
    def recall_ndcg(self) -> float:
        """nDCG@10 of recall alone."""
        return mean_ndcg(self.recall_scores, self.gains)


def fit_fusion(logits: Questions, recall_scores: Questions, lexical_scores: Questions, gains: Questions) -> Fusion:
    """Both weights with the best nDCG@10 on judged questions of one kind: `fit_over` for each of LEXICAL_WEIGHTS.

    logits, recall_scores, lexical_scores, gains: for each question, float [candidates]. Of equally good lexical weights
    the one nearest the default. Raises InputError without a relevant candidate.
    """
    fits: list[tuple[float, float, Fusion]] = []
    for lexical_weight in LEXICAL_WEIGHTS:
        known = [recall + lexical_weight * found for recall, found in zip(recall_scores, lexical_scores, strict=True)]
        domain = Domain(logits, recall_scores, known, gains)
        fusion = fit_over([domain], lexical_weight=lexical_weight)
        fits.append((domain.ndcg(fusion.recall_weight), -abs(lexical_weight - LEXICAL_WEIGHT), fusion))
    return max(fits, key=lambda fit: fit[:2])[2]


def fit_over(
    domains: Sequence[Domain],
    fitted_on: str = "",
    lexical_weight: float = LEXICAL_WEIGHT,
    caution: float = 0.0,
) -> Fusion:
    """The recall weight of `WEIGHTS` that serves several domains best, each having the same say.

    A weight's value is the mean over domains of its nDCG@10, less four times what a domain loses against recall alone:
    one that costs a domain is taken only for a large gain elsewhere. Neighbours are averaged before the best is taken,
    since a few hundred questions leave the curve rough. `lexical_weight` is the one in the domains' evidence. The
    largest weight within `caution` (nDCG@10) of the best is taken: it leaves more of the first stage's order standing
    where the reranker has never been. Raises InputError when a domain has no relevant candidate.
    """
    if not domains or not all(any(np.any(gain > 0) for gain in domain.gains) for domain in domains):
        raise InputError("a fusion weight needs at least one question with a relevant candidate in every domain")
    recall = np.array([domain.recall_ndcg for domain in domains])
    curve = np.array([[domain.ndcg(weight) for domain in domains] for weight in WEIGHTS])
    value = curve.mean(axis=1) - 4.0 * np.maximum(recall - curve, 0.0).mean(axis=1)
    smooth = np.convolve(np.pad(value, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
    questions = sum(len(domain.gains) for domain in domains)
    where = fitted_on or f"{questions} judged questions of {len(domains)} domain(s)"
    chosen = int(np.flatnonzero(smooth >= smooth.max() - caution)[-1]) if caution else int(np.argmax(smooth))
    return Fusion(recall_weight=WEIGHTS[chosen], lexical_weight=lexical_weight, fitted_on=where)


def enough_of(domains: Sequence[Domain], recall_weight: float) -> int | None:
    """The smallest of COUNTS such that reading so many candidates, those with the best evidence, has the nDCG@10 of
    reading all of them, within LITTLE in the mean of the domains; what was not read stands behind.

    None where so few candidates were judged that this says nothing of more.
    """

    def value(count: int) -> float:
        return float(np.mean([mean_ndcg(domain.read_first(count, recall_weight), domain.gains) for domain in domains]))

    whole = float(np.mean([domain.ndcg(recall_weight) for domain in domains]))
    found = next((count for count in COUNTS if value(count) >= whole - LITTLE), COUNTS[-1])
    return found if max(len(gain) for domain in domains for gain in domain.gains) > found else None


def mean_ndcg(scores: Questions, gains: Questions, depth: int = DEPTH) -> float:
    """Mean over questions of nDCG@`depth` (Järvelin & Kekäläinen 2002, linear gain) within the given candidates.

    scores, gains: float [candidates] a question. Equal scores keep their order. A question without a gain counts 0.
    """
    discounts = 1.0 / np.log2(np.arange(2, depth + 2))
    values = []
    for score, gain in zip(scores, gains, strict=True):
        order = np.argsort(-score, kind="stable")[:depth]
        ideal = float(np.sort(gain)[::-1][:depth] @ discounts[: min(depth, len(gain))])
        values.append(float(gain[order] @ discounts[: len(order)]) / ideal if ideal > 0 else 0.0)
    return float(np.mean(values)) if values else 0.0
