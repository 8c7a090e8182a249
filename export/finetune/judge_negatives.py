"""Harder lists: an exported cross-encoder reads each question's likeliest candidates before the training does.

What the bi-encoder confuses is mostly easy for a reranker that has been trained, and teaches it nothing more. Negatives
that a trained reranker itself puts highest do: by evidence the 12 best candidates hold what it confuses, and INT8 reads
them for a sixth of what a training step would pay for them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...engine.errors import ExportError
from ...engine.models.artifact import Artifact
from ...engine.models.cross_encoder import CrossEncoder
from ...engine.platform.device import choose
from ...engine.scoring.fusion import Fusion
from ...engine.text.tokenizer import Tokenizer
from ...engine.text.tokens import concatenate
from .negatives import Mined

Floats = npt.NDArray[np.float32]
# Candidates a question that are read, those with the best evidence: they have the accuracy of all 100 (bench/LOG.md).
READ = 12
# A question whose answer has this probability among the candidates read changes nothing: three in four are left out.
SURE, SURE_SHARE = 0.98, 0.25
# A passage this many logits above the labelled answer may be an answer that nobody labelled: without a ceiling a sixth
# of SQuAD's questions and two fifths of the docstrings' had one as their hardest negative (bench/LOG.md).
CEILING = 3.0
QUESTIONS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Judge:
    """An exported cross-encoder on this machine's CPU, and the weight of the evidence in the order it serves."""

    model: CrossEncoder
    fusion: Fusion

    @classmethod
    def open(cls, path: Path, base: Path, threads: int) -> Judge:
        """The artifact at `path`, which must read the tokens of `base`: mined data are ids, not texts.

        Raises ArtifactError for what is no whole cross-encoder artifact, ExportError for another tokenizer.
        """
        artifact = Artifact.open(path, kind="cross-encoder")
        if _vocabulary(artifact.path) != _vocabulary(base):
            raise ExportError(
                f"the judge {path} has another vocabulary than {base}; give a reranker made from that base"
            )
        return cls(CrossEncoder(artifact, choose("cpu", threads)), artifact.manifest.fusion)

    def order(self, mined: Mined, questions: npt.NDArray[np.int64], tokenizer: Tokenizer) -> Iterator[JudgedNegatives]:
        """What the judge makes of each of `questions`; pairs are cut to the tokenizer's length."""
        pairs, rows, evidence = [], [], []
        for question in questions:
            found, known = _likeliest(mined, question)
            read = np.concatenate([[mined.positives[question]], found[:READ]]).astype(np.int32)
            pairs.append(tokenizer.pairs(mined.questions[question], mined.titled.select(read)))
            rows.append(found)
            evidence.append(np.concatenate([mined.evidence(question, read[:1]), known[:READ]]))
        logits = self.model.compute_all(concatenate(pairs))
        ends = np.cumsum([len(each) for each in pairs])
        for found, known, part in zip(rows, evidence, np.split(logits, ends[:-1]), strict=True):
            scores = self.fusion.fuse(part, known)
            hardest = np.argsort(-scores[1:], kind="stable")
            hardest = hardest[scores[1:][hardest] <= scores[0] + CEILING]
            left = np.concatenate([scores[:1], scores[1:][hardest]])
            yield JudgedNegatives(np.concatenate([found[hardest], found[READ:]]), _probability(left))


@dataclass(frozen=True, slots=True)
class JudgedNegatives:
    """One question: its candidates, hardest first, without those read that are too likely answers themselves, and the
    probability of its answer among those read and kept."""

    candidates: npt.NDArray[np.int32]
    sure: float


def harden(
    mined: Mined,
    judge: Judge,
    tokenizer: Tokenizer,
    rng: np.random.Generator,
    advance: Callable[[int], None] = lambda count: None,
) -> Mined:
    """`mined` with each question's candidates by falling score of the judge, and without most of what is easy."""
    candidates = np.full_like(mined.candidates, -1)
    sure = np.empty(len(mined.questions))
    for start in range(0, len(sure), QUESTIONS_AT_ONCE):
        asked = np.arange(start, min(start + QUESTIONS_AT_ONCE, len(sure)))
        for question, judged in zip(asked, judge.order(mined, asked, tokenizer), strict=True):
            candidates[question, : len(judged.candidates)] = judged.candidates
            sure[question] = judged.sure
        advance(len(asked))
    kept = np.flatnonzero((sure < SURE) | (rng.random(len(sure)) < SURE_SHARE))
    return replace(
        mined,
        questions=mined.questions.select(kept),
        question_vectors=mined.question_vectors[kept],
        positives=mined.positives[kept],
        candidates=candidates[kept],
    )


def _vocabulary(folder: Path) -> object:
    """What ids mean; other parts of a tokenizer's file change when it is saved again."""
    return json.loads((folder / "tokenizer.json").read_bytes())["model"]


def _likeliest(mined: Mined, question: int) -> tuple[npt.NDArray[np.int32], Floats]:
    """A question's candidates by falling evidence, and the evidence."""
    found = mined.candidates[question]
    found = found[found >= 0]
    evidence = mined.evidence(question, found)
    order = np.argsort(-evidence, kind="stable")
    return found[order], evidence[order]


def _probability(scores: Floats) -> float:
    """Softmax of the first of `scores`."""
    shares = np.exp(scores - scores.max())
    return float(shares[0] / shares.sum())
