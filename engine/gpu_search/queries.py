"""What a pipeline is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..recall.nearest import Recalled
from ..scoring.fusion import Ranking
from ..text.tokens import TokenBatch
from .recall_step import Listed
from .rerank_step import FIELDS, QueryTerms

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PipelineOutput:
    """The best candidates of a query, best first: `rows` of the collection, `places` in recall's order from 0.

    scores are final, cosines recall's, lexical as `lexical.lexical_scores` has them; logits NaN where none was
    given. `finite`: every logit of every candidate was a number.
    """

    rows: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    scores: Floats
    cosines: Floats
    lexical: Floats
    logits: Floats
    finite: bool

    def by_place(self, candidates: int) -> tuple[Recalled, Floats, Ranking]:
        """The same in recall's order, of which only the kept candidates are filled in; `ranking` names no others."""
        rows = np.full(candidates, -1, dtype=np.int64)
        arrays = [np.full(candidates, np.nan, dtype=np.float32) for _ in range(4)]
        rows[self.places] = self.rows
        for array, own in zip(arrays, (self.cosines, self.lexical, self.scores, self.logits), strict=True):
            array[self.places] = own
        cosines, lexical, scores, logits = arrays
        return Recalled(rows, cosines, None, 0.0, 0.0), lexical, Ranking(self.places, scores, logits)


@dataclass(frozen=True, slots=True)
class Queries:
    """Queries of one micro-batch: as the encoder reads them, and the reranker's ids without special tokens.

    terms: int32 and float32 [n, TERMS] (see `lexical_evidence.Terms`); None: no lexical score counts
    listed: int64 and float32 [n, k] (see `recall_step.Listed`); None: no passage is known to hold the words
    """

    encoder: TokenBatch
    reranker: TokenBatch
    terms: QueryTerms | None = None
    listed: Listed | None = None

    def __len__(self) -> int:
        return len(self.encoder)

    def select(self, rows: npt.NDArray[np.int64]) -> Queries:
        terms = None if self.terms is None else (self.terms[0][rows], self.terms[1][rows])
        listed = None if self.listed is None else (self.listed[0][rows], self.listed[1][rows])
        return Queries(self.encoder.select(rows), self.reranker.select(rows), terms, listed)


def found(out: npt.NDArray[np.float64], kept: int) -> PipelineOutput:
    """A query's row of `rerank.RerankStep.out`."""
    rows, places, scores, cosines, lexical, logits = out[: kept * FIELDS].reshape(FIELDS, kept)
    real = rows >= 0
    return PipelineOutput(
        rows[real].astype(np.int64),
        places[real].astype(np.int64),
        scores[real].astype(np.float32),
        cosines[real].astype(np.float32),
        lexical[real].astype(np.float32),
        logits[real].astype(np.float32),
        finite=not out[-2],
    )
