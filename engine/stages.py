"""The first stage as one function of the device thread: query ids → vectors → nearest passages."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .encoder import BiEncoder
from .errors import InferenceError
from .tokens import TokenBatch

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recalled:
    """A query's nearest passages, best first.

    rows: int64 [k]; scores: float32 [k] cosines; encode_seconds, search_seconds: of the micro-batch it was in
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    encode_seconds: float
    search_seconds: float


class Nearest(Protocol):
    """An index, wherever it is (see `recall.Index.search`)."""

    def search(self, queries: npt.NDArray[np.float32], k: int) -> tuple[Vectors, npt.NDArray[np.int64]]: ...


class Recall:
    """Encode and search for `k` passages: queries that wait together share one encoding and one search."""

    def __init__(self, encoder: BiEncoder, index: Nearest, k: int) -> None:
        self._encoder = encoder
        self._index = index
        self._k = k
        self.cost = replace(encoder.cost)

    def run(self, batch: TokenBatch) -> Sequence[Recalled | InferenceError]:
        """One micro-batch of queries as the encoder reads them (see `jobs.Model`)."""
        start = time.perf_counter()
        results: list[Recalled | InferenceError] = []
        vectors = self._encoder.run(batch)
        encoded = time.perf_counter()
        good = [vector for vector in vectors if not isinstance(vector, InferenceError)]
        found = iter(self._search(good, encoded - start))
        for vector in vectors:
            results.append(vector if isinstance(vector, InferenceError) else next(found))
        return results

    def _search(self, vectors: list[npt.NDArray[np.float32]], encode_seconds: float) -> list[Recalled]:
        if not vectors:
            return []
        start = time.perf_counter()
        scores, rows = self._index.search(np.stack(vectors), self._k)
        spent = time.perf_counter() - start
        # An inverted file on a GPU fills up with row -1 where its clusters held fewer.
        found = [row >= 0 for row in rows]
        return [
            Recalled(row[real], score[real], encode_seconds, spent)
            for row, score, real in zip(rows, scores, found, strict=True)
        ]
