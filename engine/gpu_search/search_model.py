"""The pipeline as a model of the batcher: one sequence a query, one `PipelineOutput` a sequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import InferenceError
from ..recall.exact import Rows
from ..scheduling.cost_model import CostModel
from ..scoring.lexical import Lexicon
from ..text.tokens import Ids, TokenBatch, cumulative
from .lexical_evidence import TERMS
from .pipeline import Pipeline
from .queries import PipelineOutput, Queries
from .recall_step import Listed
from .rerank_step import QueryTerms

# Of a micro-batch, query tokens and passages listed: some hundred queries, which is more than the scan takes at once.
TOKENS = 32_768
# Marks in the place of segment ids: which of the two models reads a token, which are the query's own words, and what is
# no token: the passages listed for its words, and their shares, bit for bit.
ENCODER, RERANKER, WORDS, LISTED, SHARES = range(5)
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
            for mark in range(5)
        ]
        terms = None if self._lexicon is None else terms_of(self._lexicon, sides[WORDS])
        return Queries(sides[ENCODER], sides[RERANKER], terms, self._listed(sides[LISTED], sides[SHARES]))

    def _listed(self, listed: TokenBatch, shares: TokenBatch) -> Listed:
        """One row a query, as long as the recall step's."""
        k = min(self._candidates, self._pipeline.passages)
        rows = np.full((len(listed), k), -1, dtype=np.int64)
        known = np.zeros((len(listed), k), dtype=np.float32)
        for place in range(len(listed)):
            own = listed[place][:k]
            rows[place, : len(own)], known[place, : len(own)] = own, shares[place][:k].view(np.float32)
        return rows, known


def terms_of(lexicon: Lexicon, queries: TokenBatch) -> QueryTerms:
    """What the queries look for: of one with more distinct ids than TERMS the rarest."""
    ids = np.full((len(queries), TERMS), -1, dtype=np.int32)
    shares = np.zeros((len(queries), TERMS), dtype=np.float32)
    for row in range(len(queries)):
        terms, own = lexicon.terms(queries[row])
        rarest = np.argsort(-own, kind="stable")[:TERMS]
        ids[row, : len(rarest)], shares[row, : len(rarest)] = terms[rarest], own[rarest]
    return ids, shares


def joined(
    encoder: Ids, reranker: Ids, words: Ids, listed: tuple[Rows, npt.NDArray[np.float32]] | None = None
) -> TokenBatch:
    """One query as a sequence of the batcher: what the encoder reads, what the reranker reads, of the latter the words
    without prompts, for the lexical score, and the passages that hold its words; told apart by their segments."""
    rows, shares = (np.empty(0, np.int64), np.empty(0, np.float32)) if listed is None else listed
    sides = [encoder, reranker, words, rows.astype(np.int32), shares.view(np.int32)]
    marks = np.repeat(np.arange(len(sides), dtype=np.uint8), [len(ids) for ids in sides])
    return TokenBatch(np.concatenate(sides).astype(np.int32), cumulative([len(marks)]), marks)


def _checked(found: PipelineOutput | None) -> PipelineOutput | InferenceError | None:
    if found is None:
        return None
    if not len(found.rows):
        return InferenceError("the encoder gave a vector that is not finite for this text")
    if not found.finite:
        return InferenceError("the reranker gave a logit that is not finite for a passage")
    return found
