"""The first stage as one function of the device thread: query ids → vectors → nearest passages."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..errors import InferenceError
from ..models.encoder import BiEncoder
from ..recall.nearest import Nearest, Recalled
from ..text.tokens import TokenBatch


class RecallStage:
    """Encode and search for `k` passages: queries that wait together share one encoding and one search."""

    def __init__(self, encoder: BiEncoder, index: Nearest, k: int) -> None:
        self._encoder = encoder
        self._index = index
        self._k = k
        self.cost = replace(encoder.cost)

    def run(self, batch: TokenBatch) -> Sequence[Recalled | InferenceError]:
        """One micro-batch of queries as the encoder reads them (see `job.Model`)."""
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
