"""Exact search that reads bytes: every vector's code is compared, the best are scored exactly, the result is proven.

No vector that was not taken can be better than the bound on the last one's code product (`int8_codes.ceilings`). When
the k-th exact score exceeds it, the k best are found for certain; when not (hardly ever), the query is searched in full
precision.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import int8_codes
from .exact import Floats, Rows
from .int8_codes import Coding
from .row_mask import RowMask


class Scan:
    """Memory-mapped codes of all vectors. One thread at a time."""

    def __init__(self, index: Any, coding: Coding, *, threads: int) -> None:
        self._index = index
        self._coding = coding
        self._threads = threads

    @classmethod
    def open(cls, path: Path, coding: Coding, *, threads: int) -> Scan:
        """Raises CollectionError when FAISS cannot read `path` as codes."""
        return cls(int8_codes.read(path, "IndexScalarQuantizer"), coding, threads=threads)

    @property
    def shape(self) -> tuple[int, int]:
        return int(self._index.ntotal), int(self._index.d)

    def candidates(
        self, queries: Floats, k: int, allowed: RowMask | None = None
    ) -> tuple[Rows, npt.NDArray[np.float64]]:
        """The rows with the best codes for each query, and a ceiling on the score of every other row.

        queries: float32 [m, d]; `allowed`: the only rows that count
        returns: rows int64 [m, min(4 k, n)]; ceilings float64 [m]
        """
        import faiss

        faiss.omp_set_num_threads(self._threads)
        coded, largest = int8_codes.coded_queries(queries)
        among = self.shape[0] if allowed is None else allowed.count
        wanted = min(int8_codes.REFINE * k, among)
        parameters = None if allowed is None else allowed.parameters()
        products, rows = self._index.search(coded, wanted, params=parameters)
        if wanted == among:
            return rows, np.full(len(queries), -np.inf)
        return rows, int8_codes.ceilings(queries, coded, largest, products[:, -1], self._coding)


def build(vectors: Floats, progress: Callable[[int, int | None, str], None]) -> tuple[Any, float, float]:
    """Codes of `vectors` (float32 [n, d]) as a FAISS index, and the `largest` and `residual` to open it with."""
    import faiss

    largest = int8_codes.largest_magnitude(vectors)
    index = faiss.IndexScalarQuantizer(
        vectors.shape[1], faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_INNER_PRODUCT
    )
    residual = 0.0
    for start in range(0, len(vectors), int8_codes.BLOCK):
        block = vectors[start : start + int8_codes.BLOCK]
        coded = int8_codes.coded(block, largest)
        index.add(coded)
        residual = max(residual, float(int8_codes.residuals(block, coded, largest).max()))
        progress(start + len(block), len(vectors), "adding to the index")
    return index, largest, residual
