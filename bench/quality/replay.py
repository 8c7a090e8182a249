"""Orders that searches would give, from logits that were computed once.

A pair's logit does not depend on how many others were read, so one reading of the longest list of candidates tells the
order of every shorter one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...engine import Engine
from ...engine.collection.report import Progress
from ...engine.models.cross_encoder import CrossEncoder
from ...engine.scoring.effort import FINALISTS
from ...engine.scoring.fusion import Fusion, Scored, best_of, rank
from ...engine.scoring.lexical import lexical_scores
from ..workloads import needed_passages, needed_reranker
from .evaluate import Run

Logits = dict[str, npt.NDArray[np.float32]]
"""Question → float32 [candidates]"""


@dataclass(frozen=True, slots=True)
class CandidateList:
    """A question's candidates in recall's order: rows int64 [k], cosines and lexical scores float32 [k],
    documents of the rows."""

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    lexical: npt.NDArray[np.float32]
    documents: list[str]


def candidate_lists(engine: Engine, questions: dict[str, str], deepest: int) -> dict[str, CandidateList]:
    tokenizer, passages = needed_reranker(engine).tokenizer, needed_passages(engine)
    found = {}
    for name, question in questions.items():
        recalled = engine.recall(question, top_k=1, candidates=deepest)
        windows = passages.lexicon.windows(tokenizer.passages([question]).ids, passages.tokens(recalled.rows))
        lexical = lexical_scores(recalled.words, windows)
        documents = engine.collection.documents(recalled.rows)
        found[name] = CandidateList(recalled.rows, recalled.scores, lexical, documents)
    return found


def read_logits(
    engine: Engine, reranker: CrossEncoder, questions: dict[str, str], recalled: dict[str, CandidateList], most: int,
    limit: int | None, progress: Progress,
) -> Logits:  # fmt: skip
    """Of the first `most` candidates, with pairs cut to `limit` tokens as the model's own limit would cut them."""
    tokenizer, passages = reranker.tokenizer, needed_passages(engine)
    if limit is not None:
        tokenizer = reranker.artifact.tokenizer(limit)
    logits = {}
    what = f"{reranker.precision}, {tokenizer.max_length} tokens"
    for done, (name, question) in enumerate(questions.items(), start=1):
        pairs = tokenizer.pairs(tokenizer.query(question), passages.tokens(recalled[name].rows[:most]))
        logits[name] = reranker.compute_all(pairs)
        progress(done, len(questions), what)
    return logits


def after_exit(engine: Engine, recalled: dict[str, CandidateList], early: Logits) -> Logits:
    """What the early exit's logits let a search expect of all layers."""
    fusion, layer = engine.fusion, needed_reranker(engine).artifact.manifest.early or 0
    expected = {}
    for name, logits in early.items():
        each = recalled[name]
        evidence = fusion.evidence(each.scores, each.lexical)[: len(logits)]
        expected[name] = fusion.scale.after_exit(layer, logits, evidence)
    return expected


def in_recalls_order(recalled: dict[str, CandidateList]) -> Run:
    return {name: list(dict.fromkeys(each.documents)) for name, each in recalled.items()}


def in_evidences_order(recalled: dict[str, CandidateList], fusion: Fusion) -> Run:
    """The order of what the first stage knows: cosine and words in common."""
    run: Run = {}
    for name, each in recalled.items():
        order = np.argsort(-fusion.evidence(each.scores, each.lexical), kind="stable")
        run[name] = list(dict.fromkeys(each.documents[place] for place in order))
    return run


def reranked(
    recalled: dict[str, CandidateList], logits: Logits, count: int, fusion: Fusion, early: Logits | None = None
) -> Run:
    """The order that a search gives which reads `count` of the candidates.

    early: logits expected by the early exit (`after_exit`), by which FINALISTS of the candidates are chosen; None: all
        layers read all
    """
    run: Run = {}
    for name, each in recalled.items():
        known, begun = np.full((2, len(each.rows)), np.nan, dtype=np.float32)
        evidence = fusion.evidence(each.scores, each.lexical)
        order = np.argsort(-evidence[: len(logits[name])], kind="stable")
        read = order[:count] if fusion.recall_weight else np.arange(count)
        if early is not None:
            begun[read] = early[name][read]
            read = best_of(begun, evidence, fusion, FINALISTS)
        known[read] = logits[name][read]
        places = rank(evidence, Scored.of(known, begun), fusion).places
        run[name] = list(dict.fromkeys(each.documents[place] for place in places))
    return run
