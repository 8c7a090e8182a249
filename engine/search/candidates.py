"""The candidates of a search, as they are handed to the cross-encoder and as they come back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..scheduling.request_steps import Clock
from ..scoring.fusion import Fusion, Scores
from ..text.tokens import Ids, TokenBatch

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """`n` passages that may answer a query, and the search that they belong to.

    query:    int32 ids without special tokens, as the cross-encoder's tokenizer has them
    passages: n sequences of such ids
    evidence: float32 [n] what the first stage knows of them (see `Fusion`)
    clock:    what counts the search's time and knows its deadline
    client:   who asks; clients take turns at the device
    asked_at: since when they wait for the cross-encoder, seconds of the monotonic clock
    """

    query: Ids
    passages: TokenBatch
    evidence: Scores
    clock: Clock
    client: str = ""
    asked_at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Scored:
    """What the cross-encoder made of candidates, in the order given.

    logits:   float32 [n] after all layers, NaN for a candidate that did not get so far
    early:    float32 [n] after the early exit's layers, likewise
    again:    bool [n] the candidates that were read again: `logits` has both readings together
    degraded: why the time did not suffice for all that was to be read, None when it did
    """

    logits: Scores
    early: Scores
    again: npt.NDArray[np.bool_]
    degraded: str | None

    @property
    def finalists(self) -> int:
        """Candidates that all layers read."""
        return int(np.isfinite(self.logits).sum())

    @property
    def reranked(self) -> int:
        """Candidates that some layers read."""
        return int((np.isfinite(self.logits) | np.isfinite(self.early)).sum())

    @property
    def reread(self) -> int:
        """Candidates that were read again."""
        return int(self.again.sum())

    @classmethod
    def nothing(cls, count: int, degraded: str | None = None) -> Scored:
        """No candidate of `count` was read."""
        return cls(_unknown(count), _unknown(count), np.zeros(count, dtype=bool), degraded)


def best_of(logits: Scores, evidence: Scores, fusion: Fusion, count: int) -> Places:
    """int64 [at most count]: places of the best by fused score, best first, of candidates with `logits` [n] (NaN: not
    read) and `evidence` [n]."""
    known = np.flatnonzero(np.isfinite(logits))
    scores = fusion.fuse(logits[known], evidence[known])
    return known[np.argsort(-scores, kind="stable")[:count]]


def _unknown(count: int) -> Scores:
    return np.full(count, np.nan, dtype=np.float32)
