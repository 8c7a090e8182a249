"""The approximate index: FAISS's inverted file over int8 codes, which finds candidates for exact ranking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CollectionError
from ..files import storage
from .exact import Floats, Rows

REFINE = 4
"""Candidates taken for each passage wanted: int8 codes misplace some by a few ranks, hardly any by 4 times."""
ITERATIONS = 10
TRAINING_POINTS = 64
"""Vectors for each cluster that k-means sees; more change the clusters little and cost time in proportion."""
ADD_BLOCK = 65_536
SEED = 20_071


class Inverted:
    """A memory-mapped inverted file. FAISS objects are not safe to change and search at once: one owner thread."""

    def __init__(self, index: Any, *, probes: int, threads: int) -> None:
        self._index = index
        self._threads = threads
        self.probes = min(probes, index.nlist)

    @classmethod
    def open(cls, path: Path, *, probes: int, threads: int) -> Inverted:
        """Raises CollectionError when FAISS cannot read `path` as an inverted file."""
        import faiss

        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
            if not isinstance(index, faiss.IndexIVFScalarQuantizer):
                raise TypeError(f"it holds a {type(index).__name__}")
        except (RuntimeError, TypeError) as error:
            raise CollectionError(f"{path} cannot be read as an inverted file ({error}); index again") from error
        lists: Any = index.invlists and faiss.downcast_InvertedLists(index.invlists)
        if isinstance(lists, faiss.OnDiskInvertedLists):
            lists.prefetch_nthread = 0  # its default starts 32 threads for every search to read pages ahead
        return cls(index, probes=probes, threads=threads)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        return int(self._index.d)

    @property
    def lists(self) -> int:
        return int(self._index.nlist)

    def candidates(self, queries: Floats, k: int) -> list[Rows]:
        """Rows that hold the `k` nearest of each query (float32 [m, d]) with high probability; at least `k` of each."""
        import faiss

        faiss.omp_set_num_threads(self._threads)
        # One query: its clusters are shared out between the threads. Many: the queries are.
        self._index.parallel_mode = 1 if len(queries) == 1 else 0
        wanted = min(REFINE * k, len(self))
        coded = _coded(queries, np.abs(queries).max(axis=1, keepdims=True))
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


def train(vectors: Floats, lists: int, *, threads: int) -> Any:
    """An empty inverted file with `lists` clusters of the direction of a sample of `vectors` (float32 [n, d])."""
    import faiss

    faiss.omp_set_num_threads(threads)
    dimension = vectors.shape[1]
    codes = faiss.ScalarQuantizer.QT_8bit_direct_signed
    quantizer = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFScalarQuantizer(quantizer, dimension, lists, codes, faiss.METRIC_INNER_PRODUCT, False)
    index.cp.niter = ITERATIONS
    index.cp.seed = SEED
    index.cp.spherical = True
    index.cp.max_points_per_centroid = TRAINING_POINTS
    index.cp.min_points_per_centroid = 1
    size = min(len(vectors), TRAINING_POINTS * lists)
    sample = np.sort(np.random.default_rng(SEED).choice(len(vectors), size, replace=False))
    index.train(vectors[sample])
    return index


def fill(index: Any, vectors: Floats, progress: Any = None) -> None:
    """Add int8 codes of all `vectors` to a trained inverted file, scaled by one factor, which changes no order."""
    largest = max(np.abs(vectors[at : at + ADD_BLOCK]).max() for at in range(0, len(vectors), ADD_BLOCK))
    for start in range(0, len(vectors), ADD_BLOCK):
        block = vectors[start : start + ADD_BLOCK]
        index.add(_coded(block, largest))
        if progress is not None:
            progress(start + len(block), len(vectors), "adding to the index")


def _coded(vectors: Floats, largest: npt.ArrayLike) -> Floats:
    """Whole numbers of magnitude up to 127, scaled so that `largest` becomes 127.

    FAISS's `8bit_direct_signed` takes numbers as they are, of the stored vectors and, unlike its other scalar
    quantizers, of the query too: a unit vector handed over as it is would become a row of zeros. In return it
    multiplies bytes: 1.5 ms for 100,000 vectors of 384 dimensions on one core, where `8bit` takes 3.9 ms.
    """
    return np.rint(vectors * (127 / np.maximum(largest, 1e-30)).astype(np.float32))


def write(index: Any, path: Path) -> None:
    """Write the inverted file to `path`; the caller syncs it."""
    import faiss

    with storage(path):
        try:
            faiss.write_index(index, str(path))
        except RuntimeError as error:  # FAISS reports a full disk as a failed write
            raise OSError(str(error)) from error
