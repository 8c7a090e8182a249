"""What a search answers with."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Hit:
    """One passage of the answer.

    id:           the passage's; `document` is the id of the document that it is, or is a chunk of
    score:         the final score, `rerank_score + recall_weight * (recall_score + lexical_weight * lexical_score)`
                   (see `fusion.Fusion`), for a passage that was reranked; its recall score otherwise. Passages
                   that were read again stand before the others that all layers read, these before those that only
                   an early exit read, and these before all others: scores compare within each of the four.
    recall_score:  cosine of query and passage
    recall_rank:   place in recall's order, from 1
    rerank_score:  the cross-encoder's logit, None when the passage was not reranked; its early exit's where a budget
                   left no time for all layers; of a passage that was read again its own and its best window's together
                   (see `maxp.Windows.with_best`)
    lexical_score: how much of the query's words the passage holds, and holds close together, 0 to 1 (see
                   `lexical.Lexicon.scores`); None when nothing was to be reranked
    """

    id: str
    document: str
    text: str
    title: str
    metadata: dict[str, Any]
    score: float
    recall_score: float
    recall_rank: int
    rerank_score: float | None = None
    lexical_score: float | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds: `queue` is waiting for the device, `total` from the call to the answer.

    A search that is resident on a GPU is one piece of work there, which counts as `rerank`.
    """

    tokenize: float = 0.0
    encode: float = 0.0
    recall: float = 0.0
    fetch: float = 0.0
    queue: float = 0.0
    rerank: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits, best first, and how they came about.

    reranked:   candidates that the cross-encoder scored (0: recall's order)
    finalists:  of these, the ones that all its layers read; the others only those up to its early exit
    reread:     of these, the ones that it read again, window by window (see `scoring.maxp`): they are the first hits
    candidates: passages that recall gave
    degraded:   why fewer than all candidates were reranked, or those wanted not read again, or how late the answer is;
                None when none of these applies
    truncated:  whether the query was longer than the models read
    device:     where it ran
    version:    of the collection that was searched
    """

    query: str
    hits: list[Hit]
    timings: Timings
    reranked: int
    candidates: int
    degraded: str | None
    truncated: bool
    device: str
    version: str = ""
    finalists: int = 0
    reread: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Reranked:
    """One of the caller's passages after `Engine.rerank`: its place in the call, from 0, its logit and its text."""

    index: int
    score: float
    text: str | None = None
    id: str | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class RerankResult:
    """Passages in the cross-encoder's order, best first; `tokens` of all pairs, special ones included.

    degraded: why not all of them were scored (only with a budget), None when they were
    """

    passages: list[Reranked]
    tokens: int
    timings: Timings
    degraded: str | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """`vectors` float32 [n, d], unit length; `tokens` that the model read; `truncated`: texts that were cut."""

    vectors: npt.NDArray[np.float32]
    tokens: int
    truncated: int
    timings: Timings
