"""The pipeline as a model of the batcher: one sequence a query, one `PipelineOutput` a sequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InferenceError
from ..scheduling.cost_model import CostModel
from ..scoring.lexical import Lexicon
from ..text.tokens import Ids, TokenBatch, cumulative
from .lexical_evidence import TERMS
from .pipeline import Pipeline
from .queries import PipelineOutput, Queries
from .rerank_step import QueryTerms

# Query tokens of a micro-batch: some hundred queries, which is more than the scan takes at once.
TOKENS = 4096
# Marks in the place of segment ids: which of the two models reads a token, and which are the query's own words.
ENCODER, RERANKER, WORDS = 0, 1, 2
# Before anything was measured: a millisecond, the order of the floors of a small pair of models.
_SECONDS = 1e-3


class GpuSearch:
    """Whole searches with one number of candidates and of hits kept (see `job.Model`)."""

    def __init__(self, pipeline: Pipeline, candidates: int, kept: int, lexicon: Lexicon | None = None) -> None:
        """`lexicon` of the collection; None: no lexical score counts."""
        self._pipeline = pipeline
        self._candidates = candidates
        self._kept = kept
        self._lexicon = lexicon
        self.cost = CostModel(call=_SECONDS, token=0.0, square=0.0, tokens=TOKENS)

    def run(self, batch: TokenBatch) -> Sequence[PipelineOutput | InferenceError | None]:
        """One micro-batch of queries as `joined` makes them; None for one that is too large and goes stage by stage."""
        queries = self._apart(batch)
        found = self._pipeline.search(queries, self._candidates, self._kept)
        return [_checked(each) for each in found]

    def _apart(self, batch: TokenBatch) -> Queries:
        marks = np.zeros(len(batch.ids), np.uint8) if batch.segments is None else batch.segments
        owners = np.repeat(np.arange(len(batch)), batch.lengths)
        sides = [
            TokenBatch(batch.ids[marks == mark], cumulative(np.bincount(owners[marks == mark], minlength=len(batch))))
            for mark in (ENCODER, RERANKER, WORDS)
        ]
        terms = None if self._lexicon is None else terms_of(self._lexicon, sides[2])
        return Queries(sides[0], sides[1], terms)


def terms_of(lexicon: Lexicon, queries: TokenBatch) -> QueryTerms:
    """What the queries look for: of one with more distinct ids than TERMS the rarest."""
    ids = np.full((len(queries), TERMS), -1, dtype=np.int32)
    shares = np.zeros((len(queries), TERMS), dtype=np.float32)
    for row in range(len(queries)):
        terms, own = lexicon.terms(queries[row])
        rarest = np.argsort(-own, kind="stable")[:TERMS]
        ids[row, : len(rarest)], shares[row, : len(rarest)] = terms[rarest], own[rarest]
    return ids, shares


def joined(encoder: Ids, reranker: Ids, words: Ids) -> TokenBatch:
    """One query as a sequence of the batcher: what the encoder reads, what the reranker reads, and of the latter the
    words without prompts, for the lexical score; told apart by their segments."""
    sides = [encoder, reranker, words]
    marks = np.repeat(np.array([ENCODER, RERANKER, WORDS], np.uint8), [len(ids) for ids in sides])
    return TokenBatch(np.concatenate(sides).astype(np.int32), cumulative([len(marks)]), marks)


def _checked(found: PipelineOutput | None) -> PipelineOutput | InferenceError | None:
    if found is None:
        return None
    if not len(found.rows):
        return InferenceError("the encoder gave a vector that is not finite for this text")
    if not found.finite:
        return InferenceError("the reranker gave a logit that is not finite for a passage")
    return found
