"""Fit the weights of the final order, its scale, its relevance and how much is read to a collection's own questions."""

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
from ..models.cross_encoder import CrossEncoder
from ..result import Hit
from ..scoring.effort import EVERYTHING
from ..scoring.fit import Domain, enough_of, fit_fusion, mean_ndcg
from ..scoring.fusion import Fusion
from ..scoring.scale import ReadQuestions, fit_scale
from .beir import read_judged

FEW = 50
"""Fewer questions than this say little: one question in ten moves nDCG@10 by two points."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What applies from now on, and nDCG@10 on the same questions before, with it, and of recall alone.

    kept:  the weights are those from before, since no others are clearly better on these questions
    doubt: what to know about the result, None where there is nothing
    """

    fusion: Fusion
    questions: int
    kept: bool
    before: float
    after: float
    recall: float
    doubt: str | None


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
    """Fit on at most `sample` judged questions of the BEIR folder `beir`, and keep the result with the collection.

    Other weights than the engine's are taken where their nDCG@10 is better by more than one standard error of the
    difference, question by question: so ties and chance change nothing. Scale and relevance are fitted anew anyhow.

    An engine that is opened afterwards with the same models uses it; a collection keeps it for one pair of models.
    Raises CorpusError when no question has its answer among the candidates: then the judgements are another corpus's;
    InputError when the collection has no reranker.
    """
    reranker = engine.reranker
    if reranker is None:
        raise InputError(
            f"{engine.collection.path} has no reranker, so there is nothing to weigh the recall score against"
        )
    read = _read(engine, reranker, beir, split, sample, candidates, seed, progress)
    before = engine.fusion
    fitted = fit_fusion(read.logits, [scores / before.recall_scale for scores in read.recall], read.lexical, read.gains)
    weights = {"recall_weight": fitted.recall_weight, "lexical_weight": fitted.lexical_weight}
    better = before.model_copy(update=weights)
    kept = not _clearly_better(read.ndcg(better), read.ndcg(before))
    chosen = before if kept else better
    questions = len(read.gains)
    said = f"{questions} judged questions of {beir.name}"
    scale = fit_scale([read.judged(chosen)], chosen.recall_weight)
    enough = enough_of([read.domain(chosen)], chosen.recall_weight)
    fitted_on = before.fitted_on if kept else said
    fusion = chosen.model_copy(update={"scale": scale, "enough": enough, "fitted_on": fitted_on})
    marks = {"encoder": engine.encoder.artifact.fingerprint, "reranker": reranker.artifact.fingerprint}
    write_fusion(engine.collection.path, FittedWeights(**marks, fusion=fusion))
    few = f"{questions} questions are few: with {FEW} or more the relevance can be relied on"
    return Calibration(
        fusion, questions, kept, float(read.ndcg(before).mean()), float(read.ndcg(fusion).mean()),
        mean_ndcg(read.recall, read.gains), few if questions < FEW else None,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Read:
    """Judged questions whose candidates the cross-encoder read: for each, float [candidates] in recall's order."""

    logits: list[npt.NDArray[np.float32]]
    exits: dict[int, list[npt.NDArray[np.float32]]]
    recall: list[npt.NDArray[np.float32]]
    lexical: list[npt.NDArray[np.float32]]
    gains: list[npt.NDArray[np.float64]]

    def evidence(self, fusion: Fusion) -> list[npt.NDArray[np.float32]]:
        return [fusion.evidence(*scores) for scores in zip(self.recall, self.lexical, strict=True)]

    def domain(self, fusion: Fusion) -> Domain:
        return Domain(self.logits, self.recall, self.evidence(fusion), self.gains)

    def ndcg(self, fusion: Fusion) -> npt.NDArray[np.float64]:
        """float64 [questions]: nDCG@10 of each by the weights of `fusion`."""
        final = self.domain(fusion).fused(fusion.recall_weight)
        each = [mean_ndcg([scores], [gains]) for scores, gains in zip(final, self.gains, strict=True)]
        return np.array(each)

    def judged(self, fusion: Fusion) -> ReadQuestions:
        return ReadQuestions(self.logits, self.evidence(fusion), self.gains, self.exits)


def _read(
    engine: Engine, reranker: CrossEncoder, beir: Path, split: str | None, sample: int, candidates: int, seed: int,
    progress: Progress,
) -> _Read:  # fmt: skip
    """Have the candidates of the questions read by all layers, and by the early exit where there is one."""
    judged = read_judged(beir, split)
    questions = sorted(judged.queries)
    questions = random.Random(seed).sample(questions, min(sample, len(questions)))
    layer = None if reranker.early is None else reranker.artifact.manifest.early
    read = _Read([], {} if layer is None else {layer: []}, [], [], [])
    for done, question in enumerate(questions, start=1):
        text = judged.queries[question]
        hits = engine.search(text, top_k=candidates, candidates=candidates, budget_ms=None, depth=EVERYTHING).hits
        # A pair on which the model failed tells nothing.
        hits = sorted((hit for hit in hits if hit.rerank_score is not None), key=lambda hit: hit.recall_rank)
        read.logits.append(np.array([hit.rerank_score for hit in hits], dtype=np.float32))
        read.recall.append(np.array([hit.recall_score for hit in hits], dtype=np.float32))
        read.lexical.append(np.array([hit.lexical_score or 0.0 for hit in hits], dtype=np.float32))
        read.gains.append(_gains(hits, judged.qrels[question]))
        if layer is not None and reranker.early is not None and engine.passages is not None:
            tokenizer = reranker.tokenizer
            passages = engine.passages.tokens([engine.collection.row_of(hit.id) for hit in hits])
            read.exits[layer].append(reranker.early.compute_all(tokenizer.pairs(tokenizer.query(text), passages)))
        progress(done, len(questions), "questions")
    if not any(gain.any() for gain in read.gains):
        raise CorpusError(
            f"no question of {beir} has a judged document among its {candidates} candidates: another corpus?"
        )
    return read


def _clearly_better(new: npt.NDArray[np.float64], old: npt.NDArray[np.float64]) -> bool:
    """Whether the mean gain of questions exceeds its standard error."""
    gain = new - old
    error = float(gain.std(ddof=1)) / len(gain) ** 0.5 if len(gain) > 1 else float("inf")
    return float(gain.mean()) > error


def _gains(hits: list[Hit], grades: dict[str, int]) -> npt.NDArray[np.float64]:
    return np.array([max(0, grades.get(hit.document, 0)) for hit in hits], dtype=np.float64)
