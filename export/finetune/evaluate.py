"""Quality of a written reranker on lists of questions: what decides its fusion and what the model card reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from ...engine.scoring.fit import Domain, Questions, enough_of, fit_over, mean_ndcg
from ...engine.scoring.fusion import Fusion
from ...engine.scoring.scale import ReadQuestions, calibration_error, final_hits, fit_scale
from .data import read_source
from .exits import exit_curve
from .lists import dataset, judged_lists
from .recall import Floats, Recaller
from .reranker import Reranker

CANDIDATES = 100
# Behind every candidate: an answer that recall did not find counts in the ideal order, but is never ranked.
UNRANKED = np.float32(-1e9)


@dataclass(frozen=True, slots=True)
class JudgedQuestions:
    """One domain's candidates: for each question, in recall's order.

    logits: float32 [exits + 1, candidates] a question; recall, evidence, gains: float32 [candidates]
    """

    logits: list[Floats]
    recall: list[Floats]
    evidence: list[Floats]
    gains: list[Floats]

    @classmethod
    def of(cls, asked: Dataset, logits: Floats) -> JudgedQuestions:
        """Of the lists in `asked` with the `logits`, float32 [exits + 1, n], of all their pairs."""
        ends = np.cumsum([len(each) for each in asked["labels"]])

        def column(values: Any, filler: Any) -> list[Floats]:
            rows = zip(map(np.atleast_2d, values), asked["missed"], strict=True)
            return [np.pad(row, ((0, 0), (0, more)), constant_values=filler).astype(np.float32) for row, more in rows]

        found = {name: column(asked[name], filler) for name, filler in FILLERS.items()}
        recall, evidence, gains = ([row[0] for row in rows] for rows in found.values())
        return cls(column(np.split(logits, ends[:-1], axis=1), UNRANKED), recall, evidence, gains)

    def at(self, layer: int) -> Domain:
        """With the logits of one exit (by its place in the exits), or with -1 those of the last layer."""
        return Domain([logits[layer] for logits in self.logits], self.recall, self.evidence, self.gains)

    def last(self) -> Domain:
        """With the logits of the last layer."""
        return self.at(-1)

    def judged(self, exits: Sequence[int]) -> ReadQuestions:
        """What `fit_scale` fits on, of a reranker with `exits`: without the answers that recall did not find."""
        found = [recall > UNRANKED for recall in self.recall]

        def of(rows: Iterable[Floats]) -> list[Floats]:
            return [row[real] for row, real in zip(rows, found, strict=True)]

        begun = {layer: of(logits[place] for logits in self.logits) for place, layer in enumerate(exits)}
        return ReadQuestions(of(logits[-1] for logits in self.logits), of(self.evidence), of(self.gains), begun)

    @property
    def spread(self) -> float:
        """Mean over questions of the standard deviation of the last layer's logits."""
        return float(np.mean([logits[-1].std() for logits in self.logits]))


FILLERS = {"cosines": UNRANKED, "evidence": UNRANKED, "labels": 1.0}


def pairs_of(asked: Dataset) -> list[tuple[str, str]]:
    """Every question of `asked` with each of its passages, list after list."""
    lists = zip(asked["query"], asked["passages"], strict=True)
    return [(query, passage) for query, passages in lists for passage in passages]


def recall_folder(folder: Path, recall: Recaller, *, questions: int, seed: int) -> Dataset:
    """Exact recall over the whole BEIR folder for `questions` of its questions, drawn with `seed`: CANDIDATES each.

    Raises CorpusError when the folder cannot be read.
    """
    source = read_source(folder, ("test", "dev"))
    chosen = np.random.default_rng(seed).permutation(len(source.questions))[:questions]
    recalled = recall(source, [source.questions[index] for index in sorted(chosen)])
    return dataset(judged_lists(recalled, range(len(chosen)), len(chosen), CANDIDATES, complete=True))


def judge_recalled(reranker: Reranker, asked: Dataset) -> JudgedQuestions:
    """Every candidate scored by every exit. Answers that recall missed follow with score -1e9."""
    return JudgedQuestions.of(asked, reranker.score(pairs_of(asked)))


def report(judged: JudgedQuestions, reranker: Reranker, fusion: Fusion) -> dict[str, Any]:
    """accuracy@1 and nDCG@10 of recall, of the evidence, of the reranker alone and of all fused, how far the relevance
    is from the truth, and the curve of early exits."""
    domain, recall_weight = judged.last(), fusion.recall_weight
    orders = {
        "recall": domain.recall_scores, "evidence": domain.evidence, "rerank": domain.logits,
        "fused": domain.fused(recall_weight),
    }  # fmt: skip
    exits, depth = reranker.exits, reranker.inner.config.num_hidden_layers
    layers = [judged.at(layer) for layer in range(len(exits) + 1)]
    return {
        "questions": len(judged.gains),
        "accuracy@1": {name: round(accuracy(scores, domain.gains), 4) for name, scores in orders.items()},
        "ndcg@10": {name: round(value, 4) for name, value in ndcg(domain, recall_weight).items()},
        "calibration_error": _calibration_error(judged.judged(exits), fusion),
        "exit_curve": [asdict(point) for point in exit_curve(layers, exits, depth, recall_weight)],
    }


def _calibration_error(judged: ReadQuestions, fusion: Fusion) -> float | None:
    scores, relevant = final_hits(judged, fusion.recall_weight)
    likely = fusion.relevance(scores.astype(np.float32))
    return None if likely is None else round(calibration_error(likely, relevant), 4)


def ndcg(domain: Domain, recall_weight: float) -> dict[str, float]:
    """nDCG@10 of the four orders."""
    return {
        "recall": domain.recall_ndcg, "evidence": mean_ndcg(domain.evidence, domain.gains),
        "rerank": domain.ndcg(0.0), "fused": domain.ndcg(recall_weight),
    }  # fmt: skip


def accuracy(scores: Questions, gains: Questions) -> float:
    """accuracy@1: the share of questions whose best candidate is relevant."""
    return float(np.mean([gain[int(np.argmax(score))] > 0 for score, gain in zip(scores, gains, strict=True)]))


def fitted(judged: Mapping[str, JudgedQuestions], exits: Sequence[int], caution: float) -> Fusion:
    """The weights, the scale, the relevance and how much is read that serve all domains, each having the same say."""
    named = f"validation questions of {', '.join(judged)}"
    domains = [each.last() for each in judged.values()]
    fusion = fit_over(domains, named, caution=caution)
    scale = fit_scale([each.judged(exits) for each in judged.values()], fusion.recall_weight)
    return fusion.model_copy(update={"scale": scale, "enough": enough_of(domains, fusion.recall_weight)})


def left_out(
    judged: Mapping[str, JudgedQuestions], exits: Sequence[int], caution: float
) -> dict[str, dict[str, float | None]]:
    """For each domain: nDCG@10 of recall alone, and fused with what was fitted on all the other domains; and how far
    the relevance that was fitted on these is from the truth."""
    result: dict[str, dict[str, float | None]] = {}
    for name, each in judged.items():
        others = {key: other for key, other in judged.items() if key != name}
        if others:
            fusion, domain = fitted(others, exits, caution), each.last()
            result[name] = {
                "recall": round(domain.recall_ndcg, 4), "fused": round(domain.ndcg(fusion.recall_weight), 4),
                "weight": round(fusion.recall_weight, 4),
                "calibration_error": _calibration_error(each.judged(exits), fusion),
            }  # fmt: skip
    return result
