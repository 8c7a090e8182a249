"""Index: the nearest passages of a query, whatever was built; vectors.npy is the one home of the vectors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..arrays import open_array
from ..errors import CollectionError, InputError
from . import exact
from .exact import Floats, Rows
from .inverted import Inverted
from .planning import IndexPlan

VECTORS = "vectors.npy"
INVERTED = "inverted.faiss"


class Index:
    """Searches one version's vectors. One thread at a time: FAISS settings are changed between searches."""

    def __init__(self, vectors: Floats, inverted: Inverted | None = None) -> None:
        self.vectors = vectors
        self._inverted = inverted

    @classmethod
    def open(cls, folder: Path, plan: IndexPlan, *, threads: int | None = None) -> Index:
        """The index in `folder` as `plan` describes it, memory-mapped.

        `threads`: CPU threads for FAISS; None: one a core this process may use. Raises CollectionError when the files
        do not fit each other.
        """
        vectors = open_array(folder / VECTORS, np.float32, 2)
        if plan.kind == "flat":
            return cls(vectors)
        threads = threads or len(os.sched_getaffinity(0))
        inverted = Inverted.open(folder / INVERTED, probes=plan.probes, threads=threads)
        if (len(inverted), inverted.dimension) != vectors.shape:
            shape = f"{len(inverted)} by {inverted.dimension}"
            raise CollectionError(f"{folder / INVERTED} holds {shape} codes, not one for each vector; index again")
        return cls(vectors, inverted)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dimension(self) -> int:
        return int(self.vectors.shape[1])

    def search(self, queries: Floats, k: int) -> tuple[Floats, Rows]:
        """The `k` nearest passages of each query, fewer when the collection has fewer.

        queries: float32 [n, d] of unit length
        returns: scores float32 [n, k], cosines descending, ties by row; rows int64 [n, k]
        Raises InputError on a query of another dimension or with a number that is not finite.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise InputError(f"queries of shape {queries.shape} do not fit vectors of dimension {self.dimension}")
        if not np.isfinite(queries).all():
            raise InputError("a query vector holds a number that is not finite")
        if k < 1:
            raise InputError(f"cannot search for {k} passages; ask for at least 1")
        k = min(k, len(self))
        if self._inverted is None:
            return exact.search(self.vectors, queries, k)
        candidates = self._inverted.candidates(queries, k)
        ranked = [exact.rank(self.vectors, query, rows, k) for query, rows in zip(queries, candidates, strict=True)]
        empty = (np.empty((0, k), np.float32), np.empty((0, k), np.int64))
        if not ranked:
            return empty
        return np.stack([scores for scores, _ in ranked]), np.stack([rows for _, rows in ranked])
