"""Quality on held-back questions: recall alone, the reranker alone, and both fused, for each domain and layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ...engine.scoring.fit import Domain, fit_over, mean_ndcg
from ...engine.scoring.fusion import Fusion
from ...engine.text.tokenizer import Tokenizer
from .forward import Workers, score_pairs
from .negatives import Mined

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class JudgedQuestions:
    """One domain's candidates: for each question, in recall's order.

    logits: float32 [exits + 1, candidates] a question; recall, evidence, gains: float32 [candidates]
    """

    logits: list[Floats]
    recall: list[Floats]
    evidence: list[Floats]
    gains: list[Floats]

    def at(self, layer: int) -> Domain:
        """With the logits of one exit (by its place in the exits), or with -1 those of the last layer."""
        return Domain([logits[layer] for logits in self.logits], self.recall, self.evidence, self.gains)

    @property
    def spread(self) -> float:
        """Mean over questions of the standard deviation of the last layer's logits."""
        return float(np.mean([logits[-1].std() for logits in self.logits]))

    def last(self) -> Domain:
        """With the logits of the last layer."""
        return self.at(-1)


def judge(
    model: nn.Module,
    tokenizer: Tokenizer,
    mined: Mined,
    *,
    pad_id: int,
    questions: int,
    candidates: int,
    workers: Workers,
) -> JudgedQuestions:
    """Score the `candidates` with the best evidence for up to `questions` questions whose answer is among them."""
    rows = [_likeliest(mined, index, candidates) for index in range(len(mined.questions))]
    asked = [i for i in range(len(rows)) if mined.positives[i] in rows[i]][:questions]

    def one(question: int) -> tuple[Floats, Floats, Floats, Floats]:
        found = rows[question]
        pairs = tokenizer.pairs(mined.questions[question], mined.titled.select(found))
        with torch.inference_mode():
            logits = score_pairs(model, pairs, pad_id).numpy()
        gains = (found == mined.positives[question]).astype(np.float32)
        return logits, mined.cosines(question, found), mined.evidence(question, found), gains

    results = workers.map(one, asked)
    return (
        JudgedQuestions(*(list(column) for column in zip(*results, strict=True)))
        if results
        else JudgedQuestions([], [], [], [])
    )


def _likeliest(mined: Mined, question: int, count: int) -> npt.NDArray[np.int32]:
    """The rows of a question's `count` candidates with the best evidence, in recall's order."""
    found = mined.candidates[question]
    found = found[found >= 0]
    best = np.argsort(-mined.evidence(question, found), kind="stable")[:count]
    likeliest: npt.NDArray[np.int32] = found[np.sort(best)]
    return likeliest


@dataclass(frozen=True, slots=True)
class ValidationQuality:
    """nDCG@10 of each domain: recall alone, and every layer bare and fused; the fusion fitted on all domains."""

    fusion: Fusion
    recall: dict[str, float]
    bare: dict[str, list[float]]
    fused: dict[str, list[float]]

    @property
    def mean(self) -> float:
        """What decides which weights are kept: the last layer's nDCG@10, mean of alone and fused and over domains.

        Not fused only: where recall is strong, that hardly moves while the reranker still learns (see bench/LOG.md).
        """
        return float(np.mean([layers[-1] for orders in (self.bare, self.fused) for layers in orders.values()]))


def quality(judged: dict[str, JudgedQuestions]) -> ValidationQuality:
    """Fit the fusion over all domains (each with equal say) and measure each."""
    return measured_with(fit_over([domain.last() for domain in judged.values()]), judged)


def measured_with(fusion: Fusion, judged: dict[str, JudgedQuestions]) -> ValidationQuality:
    """Measure each domain with a given fusion."""
    recall, bare, fused = {}, {}, {}
    for name, domain in judged.items():
        layers = [domain.at(layer) for layer in range(len(domain.logits[0]))]
        recall[name] = mean_ndcg(domain.recall, domain.gains)
        bare[name] = [layer.ndcg(0.0) for layer in layers]
        fused[name] = [layer.ndcg(fusion.recall_weight) for layer in layers]
    return ValidationQuality(fusion, recall, bare, fused)
