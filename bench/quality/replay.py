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
from ...engine.config import FINALISTS
from ...engine.models.cross_encoder import CrossEncoder
from ...engine.scoring.fusion import Fusion, Scored, best_of, rank
from ..workloads import needed_passages, needed_reranker
from .evaluate import Run

Logits = dict[str, npt.NDArray[np.float32]]
"""Question → float32 [candidates]"""


@dataclass(frozen=True, slots=True)
class CandidateList:
    """A question's candidates: rows int64 [k], cosines and lexical scores float32 [k], documents of the rows."""

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    lexical: npt.NDArray[np.float32]
    documents: list[str]


def candidate_lists(engine: Engine, questions: dict[str, str], deepest: int) -> dict[str, CandidateList]:
    collection, tokenizer, passages = engine.collection, needed_reranker(engine).tokenizer, needed_passages(engine)
    scores, rows = collection.index.search(engine.embed(list(questions.values()), "query"), deepest)
    found = {}
    for (name, question), row, score in zip(questions.items(), rows, scores, strict=True):
        lexical = passages.lexicon.scores(tokenizer.passages([question]).ids, passages.tokens(row))
        found[name] = CandidateList(row, score, lexical, collection.documents(row))
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
    """The order that a search with `count` candidates gives: the reranked first, the rest in recall's order.

    early: logits of the early exit, by which FINALISTS of the candidates are chosen; None: all layers read all
    """
    run: Run = {}
    for name, each in recalled.items():
        known, begun = np.full((2, len(each.rows)), np.nan, dtype=np.float32)
        evidence = fusion.evidence(each.scores, each.lexical)
        read = np.arange(count)
        if early is not None:
            begun[:count] = early[name][:count]
            read = best_of(begun, evidence, fusion, FINALISTS)
        known[read] = logits[name][read]
        places = rank(each.scores, evidence, Scored.of(known, begun), fusion).places
        run[name] = list(dict.fromkeys(each.documents[place] for place in places))
    return run
