"""Exact search that reads bytes: every vector's code is compared, the best are scored exactly, the result is proven.

With |v| <= 1.01 (half precision is off by less), q' and v' what the codes stand for, and residuals a >= |q - q'| and
b >= |v - v'|:

    q.v = q'.v' + (q - q').v' + q.(v - v') <= q'.v' + a (1.01 + b) + |q| b

so no vector that was not taken can be better than the last one's code product plus that. When the k-th exact score
exceeds it, the k best are found for certain; when not (hardly ever), the query is searched in full precision.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import codes
from .exact import Floats, Rows

# Beyond the bound: rounding of float32 scores and of the bound itself.
ROUNDING = 1e-6
LONGEST = 1.01


class Scan:
    """Memory-mapped codes of all vectors. One thread at a time."""

    def __init__(self, index: Any, *, largest: float, residual: float, threads: int) -> None:
        """`largest`: the magnitude coded as 127; `residual`: the largest distance of a vector from its code."""
        self._index = index
        self._largest = largest
        self._residual = residual
        self._threads = threads

    @classmethod
    def open(cls, path: Path, *, largest: float, residual: float, threads: int) -> Scan:
        """Raises CollectionError when FAISS cannot read `path` as codes."""
        return cls(codes.read(path, "IndexScalarQuantizer"), largest=largest, residual=residual, threads=threads)

    @property
    def shape(self) -> tuple[int, int]:
        return int(self._index.ntotal), int(self._index.d)

    def candidates(self, queries: Floats, k: int) -> tuple[Rows, npt.NDArray[np.float64]]:
        """The rows with the best codes for each query, and a ceiling on the cosine of every other row.

        queries: float32 [m, d] of unit length
        returns: rows int64 [m, min(4 k, n)]; ceilings float64 [m]
        """
        import faiss

        faiss.omp_set_num_threads(self._threads)
        coded, largest = codes.coded_queries(queries)
        wanted = min(codes.REFINE * k, self.shape[0])
        products, rows = self._index.search(coded, wanted)
        if wanted == self.shape[0]:
            return rows, np.full(len(queries), -np.inf)
        last = products[:, -1].astype(np.float64) * largest[:, 0] * self._largest / 127**2
        own = codes.residuals(queries, coded, largest)
        norms = np.linalg.norm(queries, axis=1).astype(np.float64)
        return rows, last + own * (LONGEST + self._residual) + norms * self._residual + ROUNDING


def build(vectors: Floats, progress: Callable[[int, int | None, str], None]) -> tuple[Any, float, float]:
    """Codes of `vectors` (float32 [n, d]) as a FAISS index, and the `largest` and `residual` to open it with."""
    import faiss

    largest = codes.largest_magnitude(vectors)
    index = faiss.IndexScalarQuantizer(
        vectors.shape[1], faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_INNER_PRODUCT
    )
    residual = 0.0
    for start in range(0, len(vectors), codes.BLOCK):
        block = vectors[start : start + codes.BLOCK]
        coded = codes.coded(block, largest)
        index.add(coded)
        residual = max(residual, float(codes.residuals(block, coded, largest).max()))
        progress(start + len(block), len(vectors), "adding to the index")
    return index, largest, residual
