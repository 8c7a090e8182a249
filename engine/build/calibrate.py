"""Fit the weights of the first stage's evidence to a collection's own judged questions."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..collection import FittedWeights, Progress, write_fusion
from ..collection.report import silent
from ..engine import Engine
from ..errors import CorpusError, InputError
from ..result import Hit
from ..scoring.fit import Domain, fit_fusion, mean_ndcg
from ..scoring.fusion import Fusion
from .beir import read_judged


@dataclass(frozen=True, slots=True)
class Calibration:
    """The fitted weights, and nDCG@10 on the same questions before, with it, and of recall alone."""

    fusion: Fusion
    questions: int
    before: float
    after: float
    recall: float


def calibrate(
    engine: Engine,
    beir: Path,
    *,
    split: str | None = None,
    sample: int = 500,
    candidates: int = 100,
    seed: int = 0,
    progress: Progress = silent,
) -> Calibration:
    """Fit on at most `sample` judged questions of the BEIR folder `beir`, and keep the weight with the collection.

    An engine that is opened afterwards with the same models uses it; a collection keeps it for one pair of models.
    Raises CorpusError when no question has its answer among the candidates: then the judgements are another corpus's;
    InputError when the collection has no reranker.
    """
    if engine.reranker is None:
        raise InputError(
            f"{engine.collection.path} has no reranker, so there is nothing to weigh the recall score against"
        )
    judged = read_judged(beir, split)
    questions = sorted(judged.queries)
    questions = random.Random(seed).sample(questions, min(sample, len(questions)))
    logits, recall, lexical, gains = [], [], [], []
    for done, question in enumerate(questions, start=1):
        text = judged.queries[question]
        hits = engine.search(text, top_k=candidates, candidates=candidates, budget_ms=None).hits
        hits = sorted(hits, key=lambda hit: hit.recall_rank)
        logits.append(np.array([hit.rerank_score for hit in hits], dtype=np.float32))
        recall.append(np.array([hit.recall_score for hit in hits], dtype=np.float32))
        lexical.append(np.array([hit.lexical_score for hit in hits], dtype=np.float32))
        gains.append(_gains(hits, judged.qrels[question]))
        progress(done, len(questions), "questions")
    if not any(gain.any() for gain in gains):
        raise CorpusError(
            f"no question of {beir} has a judged document among its {candidates} candidates: another corpus?"
        )
    scale = engine.fusion.recall_scale
    fusion = fit_fusion(logits, [scores / scale for scores in recall], lexical, gains)
    said = f"{len(questions)} judged questions of {beir.name}"
    fusion = fusion.model_copy(update={"recall_scale": scale, "fitted_on": said})
    encoder, reranker = engine.encoder.artifact.fingerprint, engine.reranker.artifact.fingerprint
    write_fusion(engine.collection.path, FittedWeights(encoder=encoder, reranker=reranker, fusion=fusion))

    def ndcg(weights: Fusion) -> float:
        known = [weights.evidence(*scores) for scores in zip(recall, lexical, strict=True)]
        return Domain(logits, recall, known, gains).ndcg(weights.recall_weight)

    return Calibration(fusion, len(questions), ndcg(engine.fusion), ndcg(fusion), mean_ndcg(recall, gains))


def _gains(hits: list[Hit], grades: dict[str, int]) -> npt.NDArray[np.float64]:
    return np.array([max(0, grades.get(hit.document, 0)) for hit in hits], dtype=np.float64)
