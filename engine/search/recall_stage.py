"""Recall by vectors on the device thread: a query encoded and its nearest passages found, as one job."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..errors import InferenceError
from ..models.encoder import BiEncoder
from ..recall.nearest import Nearest, Neighbours
from ..text.tokens import TokenBatch


class RecallStage:
    """Recall by vectors as a model of the device thread: queries that wait together share an encoding and a search."""

    def __init__(self, encoder: BiEncoder, index: Nearest, k: int) -> None:
        self._encoder = encoder
        self._index = index
        self._k = k
        self.cost = replace(encoder.cost)

    def run(self, batch: TokenBatch) -> Sequence[Neighbours | InferenceError]:
        """The `k` nearest passages of each query of a micro-batch, as the encoder reads them (see `job.Model`)."""
        start = time.perf_counter()
        vectors = self._encoder.run(batch)
        seconds = time.perf_counter() - start
        found = iter(self._search([vector for vector in vectors if not isinstance(vector, Exception)], seconds))
        return [vector if isinstance(vector, InferenceError) else next(found) for vector in vectors]

    def _search(self, vectors: list[npt.NDArray[np.float32]], encode_seconds: float) -> list[Neighbours]:
        if not vectors:
            return []
        start = time.perf_counter()
        scores, rows = self._index.search(np.stack(vectors), self._k)
        spent = time.perf_counter() - start
        # An inverted file on a GPU fills up with row -1 where its clusters held fewer.
        found = [row >= 0 for row in rows]
        return [
            Neighbours(row[real], score[real], vector, encode_seconds, spent)
            for row, score, vector, real in zip(rows, scores, vectors, found, strict=True)
        ]
