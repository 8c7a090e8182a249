"""Queries with their exact neighbours, kept beside an index: others over the same vectors are measured by them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import CollectionError
from ..platform.npy import ArrayWriter, open_array
from . import exact
from .exact import Floats, Rows

DEPTH = 100
QUERIES = "sample.npy"
TRUTH = "truth.npy"


@dataclass(frozen=True, slots=True)
class NeighbourSample:
    """queries: float32 [m, d]; truth: int64 [m, min(100, n)], the nearest rows of each, best first."""

    queries: Floats
    truth: Rows

    @classmethod
    def of(cls, vectors: Floats, queries: Floats, longest: float = 1.0) -> NeighbourSample:
        """The exact neighbours of `queries` (float32 [m, d]) in `vectors` (float32 [n, d], none above `longest`)."""
        return cls(queries, exact.search(vectors, queries, DEPTH, longest)[1])

    def write(self, folder: Path) -> None:
        """Two files: 0.6 MB for 256 queries of 384 dimensions."""
        for name, array in ((QUERIES, self.queries), (TRUTH, self.truth)):
            writer = ArrayWriter(folder / name, array.dtype, array.shape[1:])
            try:
                writer.append(array)
                writer.close()
            finally:
                writer.abandon()

    @classmethod
    def open(cls, folder: Path, vectors: Floats) -> NeighbourSample | None:
        """The sample in `folder`; None in a folder from before there were any.

        Raises CollectionError when its files do not fit `vectors` (float32 [n, d]).
        """
        if not (folder / QUERIES).exists() and not (folder / TRUTH).exists():
            return None
        queries, truth = open_array(folder / QUERIES, np.float32, 2), open_array(folder / TRUTH, np.int64, 2)
        rows, dimension = vectors.shape
        if not len(queries) or queries.shape[1] != dimension or not np.isfinite(queries).all():
            raise CollectionError(f"{folder / QUERIES} holds no queries of dimension {dimension}; index again")
        if truth.shape != (len(queries), min(DEPTH, rows)) or truth.min() < 0 or truth.max() >= rows:
            raise CollectionError(f"{folder / TRUTH} holds no neighbours of its queries in {rows} rows; index again")
        return cls(queries, truth)
