"""Harder lists: an exported cross-encoder reads each question's likeliest candidates before the training does.

What the bi-encoder confuses is mostly easy for a reranker that has been trained, and teaches it nothing more. Negatives
that a trained reranker itself puts highest do: by evidence the 12 best candidates hold what it confuses, and INT8 reads
them for a sixth of what a training step would pay for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...engine.collection.document import with_title
from ...engine.models.artifact import Artifact
from ...engine.models.cross_encoder import CrossEncoder
from ...engine.platform.device import choose
from ...engine.scoring.fusion import Fusion
from .recall import Floats, Recall, Rows

# Candidates a question that are read, those with the best evidence: they have the accuracy of all 100 (bench/LOG.md).
READ = 12
# A question whose answer has this probability among the candidates read changes nothing: three in four are left out.
SURE, SURE_SHARE = 0.98, 0.25
# A passage this many logits above the labelled answer may be an answer that nobody labelled: without a ceiling a sixth
# of SQuAD's questions and two fifths of the docstrings' had one as their hardest negative (bench/LOG.md).
CEILING = 3.0


@dataclass(frozen=True, slots=True)
class Judge:
    """An exported cross-encoder on this machine's CPU, and the weight of the evidence in the order it serves."""

    model: CrossEncoder
    fusion: Fusion

    @classmethod
    def open(cls, path: Path) -> Judge:
        """The artifact at `path`; raises ArtifactError for what is no whole cross-encoder artifact."""
        artifact = Artifact.open(path, kind="cross-encoder")
        return cls(CrossEncoder(artifact, choose("cpu", None)), artifact.manifest.fusion)

    def hardest(self, recall: Recall, question: int, found: Rows) -> tuple[Rows, float]:
        """`found`, which come by falling evidence, by falling score of the judge, and how sure it is of the answer.

        Without those read that are too likely answers themselves. Sure is the answer's probability among those left.
        """
        read = np.concatenate([recall.questions[question].positives[:1], found[:READ]]).astype(np.int64)
        passages = [recall.source.passages[row] for row in read]
        texts = [with_title(passage.title, passage.text) for passage in passages]
        logits = self.model.score(recall.questions[question].text, texts)
        scores = self.fusion.fuse(logits, recall.evidence(question, read))
        order = np.argsort(-scores[1:], kind="stable")
        order = order[scores[1:][order] <= scores[0] + CEILING]
        hardest = np.concatenate([found[order], found[READ:]])
        return hardest, _probability(np.concatenate([scores[:1], scores[1:][order]]))

    @staticmethod
    def spares(sure: float, rng: np.random.Generator) -> bool:
        """Whether the question is left out, since it is too easy."""
        return sure >= SURE and rng.random() >= SURE_SHARE


def _probability(scores: Floats) -> float:
    """Softmax of the first of `scores`."""
    shares = np.exp(scores - scores.max())
    return float(shares[0] / shares.sum())
