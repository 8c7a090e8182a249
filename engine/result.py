"""What is answered. Each class is declared here once: it is what Python gets, the JSON over HTTP, and the OpenAPI."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field

# Answers hold what is declared and nothing else: it is what /openapi.json says.
_EXACT = ConfigDict(extra="forbid")
DegradedCode = Literal["no_reranker", "fewer_candidates", "cut_short", "fewer_finalists", "fewer_reread", "late"]


@dataclass(frozen=True, slots=True)
class Degraded:
    """What was left undone, by what was really done: a code for programs and a sentence for people.

    no_reranker:      the collection has no reranker, so hits are in recall's order
    fewer_candidates: the time sufficed for fewer candidates, which was known before they were read
    cut_short:        time ran out while candidates were read
    fewer_finalists:  all candidates were read, but fewer by all layers
    fewer_reread:     fewer were read again, window by window
    late:             all was done, after the budget's end
    """

    code: DegradedCode
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One passage of the answer.

    score: hits fall by it. It is `rerank_score + recall_weight * (recall_score + lexical_weight * lexical_score)` (see
        `fusion.Fusion`, which scales a dot product); where the cross-encoder read nothing of a passage, with the logit
        that is expected of it (see `scale`). Where nothing was reranked, what is in brackets.
    relevance: None where the weights of the final order were not fitted, or nothing was reranked
    rerank_score: where a budget left no time for all layers, the logit that is expected by the early exit's; of a
        passage that was read again its own and its best window's together (see `rereading`)
    recall_rank: by what is in the brackets before the reranker's token ids were read
    lexical_score: see `lexical.lexical_scores`; None where nothing is known of words
    """

    __pydantic_config__ = _EXACT

    rank: Annotated[int, Field(description="Place in the answer, from 1")]
    id: Annotated[str, Field(description="The passage's id")]
    document: Annotated[str, Field(description="Id of the document that the passage is, or is a chunk of")]
    text: Annotated[str, Field(description="Left out over HTTP where it is not wanted")] = ""
    title: str
    metadata: dict[str, Any]
    score: Annotated[float, Field(description="The final score, by which hits fall")]
    relevance: Annotated[
        float | None,
        Field(description="How likely it answers the question, 0 to 1; null where no weights were fitted for that"),
    ]
    recall_score: Annotated[
        float, Field(description="Cosine of query and passage, or their dot product where the model is made for it")
    ]
    recall_rank: Annotated[int, Field(description="Place in recall's order, from 1")]
    rerank_score: Annotated[float | None, Field(description="The cross-encoder's logit; null where it read nothing")]
    lexical_score: Annotated[
        float | None,
        Field(description="How much of the query's words the passage holds, and close together, 0 to 1"),
    ]


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds. A search that is resident on a GPU is one piece of work there, which counts as `rerank`."""

    __pydantic_config__ = _EXACT

    tokenize: float
    encode: float
    recall: float
    fetch: float
    queue: Annotated[float, Field(description="Waiting for the device")]
    rerank: float
    total: Annotated[float, Field(description="From the call to the answer")]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of one query, best first, and how they came about."""

    __pydantic_config__ = _EXACT

    query: str
    hits: list[Hit]
    timings: Timings
    candidates: Annotated[int, Field(description="Passages that recall gave")]
    reranked: Annotated[int, Field(description="Of these, the ones that the cross-encoder read (0: recall's order)")]
    finalists: Annotated[int, Field(description="Of these, the ones that all its layers read")]
    reread: Annotated[int, Field(description="Of these, the ones that it read again, window by window")]
    degraded: Annotated[str | None, Field(description="What was not done, by what was, or how late the answer is")]
    degraded_code: Annotated[DegradedCode | None, Field(description="The same for programs (see `Degraded`)")]
    truncated: Annotated[bool, Field(description="Whether the query was longer than the models read")]
    device: Annotated[str, Field(description="Where it ran")]
    version: Annotated[str, Field(description="Of the collection that was searched")]
    warnings: Annotated[
        list[str],
        Field(description="What of the collection or the filter could not be honoured, and why, a sentence each"),
    ] = field(default_factory=list)

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

    degraded: how many were scored where not all were (only with a budget), None when they were
    degraded_code: the same for programs (see `Degraded`)
    """

    passages: list[Reranked]
    tokens: int
    timings: Timings
    degraded: str | None = None
    degraded_code: DegradedCode | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """`vectors` float32 [n, d], unit length; `tokens` that the model read; `truncated`: texts that were cut."""

    vectors: npt.NDArray[np.float32]
    tokens: int
    truncated: int
    timings: Timings
