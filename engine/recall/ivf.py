"""The approximate index: FAISS's inverted file over int8 codes, which finds candidates for exact ranking."""

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

ITERATIONS = 10
TRAINING_POINTS = 64
"""Vectors for each cluster that k-means sees; more change the clusters little and cost time in proportion."""
SEED = 20_071


class Ivf:
    """A memory-mapped inverted file. FAISS objects are not safe to change and search at once: one owner thread."""

    def __init__(self, index: Any, coding: Coding, *, probes: int, threads: int) -> None:
        self._index = index
        self._coding = coding
        self._threads = threads
        self.probes: int = min(probes, index.nlist)

    @classmethod
    def open(cls, path: Path, coding: Coding, *, probes: int, threads: int) -> Ivf:
        """Raises CollectionError when FAISS cannot read `path` as an inverted file."""
        import faiss

        index = int8_codes.read(path, "IndexIVFScalarQuantizer")
        lists: Any = index.invlists and faiss.downcast_InvertedLists(index.invlists)
        if isinstance(lists, faiss.OnDiskInvertedLists):
            lists.prefetch_nthread = 0  # its default starts 32 threads for every search to read pages ahead
        return cls(index, coding, probes=probes, threads=threads)

    @property
    def shape(self) -> tuple[int, int]:
        return int(self._index.ntotal), int(self._index.d)

    @property
    def lists(self) -> int:
        return int(self._index.nlist)

    def candidates(self, queries: Floats, k: int) -> list[Rows]:
        """Rows that hold the `k` nearest of each query (float32 [m, d]) with high probability; at least `k` of each."""
        import faiss

        faiss.omp_set_num_threads(self._threads)
        # One query: its clusters are shared out between the threads. Many: the queries are.
        self._index.parallel_mode = 1 if len(queries) == 1 else 0
        wanted = min(int8_codes.REFINE * k, self.shape[0])
        coded, _ = int8_codes.coded_queries(queries)
        found: list[Rows] = [np.empty(0, dtype=np.int64)] * len(queries)
        waiting, probes = np.arange(len(queries)), self.probes
        while len(waiting):
            self._index.nprobe = probes
            _, rows = self._index.search(coded[waiting], wanted)
            enough = (rows >= 0).sum(axis=1) >= k
            for place, row in zip(waiting[enough], rows[enough], strict=True):
                found[place] = row[row >= 0]
            # Small clusters: fewer than k passages in those that were read. All clusters together hold all passages.
            waiting, probes = waiting[~enough], min(2 * probes, self._index.nlist)
        return found

    @property
    def bounded(self) -> bool:
        """Whether its codes' bound is known: not of an index built before it was recorded."""
        return self._coding.residual > 0

    def allowed_candidates(self, queries: Floats, k: int, allowed: RowMask) -> tuple[Rows, npt.NDArray[np.float64]]:
        """The `allowed` rows with the best codes, of all clusters, and a ceiling on the score of every other one.

        A filter may leave nothing in the clusters near a query, so which to read cannot be told: all codes are compared
        (see `index.FEW`), and the result is exact, as in a scan.
        queries: float32 [m, d]
        returns: rows int64 [m, min(4 k, count)]; ceilings float64 [m]
        """
        import faiss

        faiss.omp_set_num_threads(self._threads)
        self._index.parallel_mode = 1 if len(queries) == 1 else 0
        coded, largest = int8_codes.coded_queries(queries)
        wanted = min(int8_codes.REFINE * k, allowed.count)
        parameters = allowed.parameters(nprobe=self._index.nlist)
        products, rows = self._index.search(coded, wanted, params=parameters)
        if wanted == allowed.count:
            return rows, np.full(len(queries), -np.inf)
        return rows, int8_codes.ceilings(queries, coded, largest, products[:, -1], self._coding)


def train(vectors: Floats, lists: int, *, threads: int) -> Any:
    """An empty inverted file with `lists` clusters of the direction of a sample of `vectors` (float32 [n, d]).

    By direction also where vectors are not of length 1: with centroids as long as their vectors the longest would draw
    most vectors and most queries. Long vectors count more for their cluster's direction, as they do in a dot product.
    """
    import faiss

    faiss.omp_set_num_threads(threads)
    dimension = vectors.shape[1]
    code = faiss.ScalarQuantizer.QT_8bit_direct_signed
    quantizer = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFScalarQuantizer(quantizer, dimension, lists, code, faiss.METRIC_INNER_PRODUCT, False)
    index.cp.niter = ITERATIONS
    index.cp.seed = SEED
    index.cp.spherical = True
    index.cp.max_points_per_centroid = TRAINING_POINTS
    index.cp.min_points_per_centroid = 1
    size = min(len(vectors), TRAINING_POINTS * lists)
    sample = np.sort(np.random.default_rng(SEED).choice(len(vectors), size, replace=False))
    index.train(vectors[sample])
    return index


def fill(index: Any, vectors: Floats, progress: Callable[[int, int | None, str], None]) -> tuple[float, float]:
    """Add codes of all `vectors` to a trained inverted file; returns the `largest` and `residual` to open it with.

    All are scaled by one factor, which changes no order.
    """
    largest, residual = int8_codes.largest_magnitude(vectors), 0.0
    for start in range(0, len(vectors), int8_codes.BLOCK):
        block = vectors[start : start + int8_codes.BLOCK]
        coded = int8_codes.coded(block, largest)
        index.add(coded)
        residual = max(residual, float(int8_codes.residuals(block, coded, largest).max()))
        progress(start + len(block), len(vectors), "adding to the index")
    return largest, residual
