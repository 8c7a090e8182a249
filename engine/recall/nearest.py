"""What the first stage asks of an index, wherever it is, and what a query gets from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A query's nearest passages, best first.

    rows: int64 [k]; scores: float32 [k] cosines, or dot products of vectors that are not of length 1
    vector: float32 [d], the query's
    encode_seconds, search_seconds: of the micro-batch it was in
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    vector: npt.NDArray[np.float32]
    encode_seconds: float
    search_seconds: float

    @property
    def seconds(self) -> float:
        """What it took."""
        return self.encode_seconds + self.search_seconds


@dataclass(frozen=True, slots=True)
class Recalled:
    """A query's candidates, those with the most evidence first.

    rows: int64 [k]; scores: float32 [k], as `Neighbours` has them
    words: float32 [k] from 0 to 1, how much of the query's words each holds; None: words are not known
    encode_seconds, search_seconds: what it took, of which the latter for both lists
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    words: npt.NDArray[np.float32] | None
    encode_seconds: float
    search_seconds: float

    @property
    def seconds(self) -> float:
        """What it took."""
        return self.encode_seconds + self.search_seconds


class Nearest(Protocol):
    """An index, wherever it is (see `recall.Index.search`)."""

    def search(self, queries: npt.NDArray[np.float32], k: int) -> tuple[Vectors, npt.NDArray[np.int64]]: ...
