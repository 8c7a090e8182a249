"""What the first stage asks of an index, wherever it is, and what a query gets from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recalled:
    """A query's nearest passages, best first.

    rows: int64 [k]; scores: float32 [k] cosines, or dot products of vectors that are not of length 1
    encode_seconds, search_seconds: of the micro-batch it was in
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    encode_seconds: float
    search_seconds: float

    @property
    def seconds(self) -> float:
        """What it took."""
        return self.encode_seconds + self.search_seconds


class Nearest(Protocol):
    """An index, wherever it is (see `recall.Index.search`)."""

    def search(self, queries: npt.NDArray[np.float32], k: int) -> tuple[Vectors, npt.NDArray[np.int64]]: ...
