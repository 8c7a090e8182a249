"""Other indexes over the same vectors, in this process: FAISS, hnswlib, usearch, each as its documentation advises.

Breadth of search (`ef`, `nprobe`) is raised until it finds what Tandem's inverted file is tuned to, as a user would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...engine.errors import InputError

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
LINKS, BUILD_BREADTH = 16, 200
"""hnswlib's documented example values (M 16, ef_construction 200), given to every graph."""
BREADTHS = (100, 150, 200, 300, 400, 600, 800)
PROBES = (4, 8, 16, 32, 64, 128, 256, 512)
"""Lists of an inverted file that are searched."""
ADDED = 100_000


@dataclass(frozen=True, slots=True)
class OtherIndex:
    """A built index: `search(query [d], k)` gives int64 [k]; `widen(breadth)` trades time for recall, where it can.

    read: bytes that every search reads, where it is always the same; beside: bytes of its files, where it has some
    """

    search: Callable[[Floats, int], Rows]
    widen: Callable[[int], None] | None
    settings: str
    breadths: Sequence[int] = BREADTHS
    read: float | None = None
    beside: int | None = None


def faiss_flat(vectors: Floats, threads: int) -> OtherIndex:
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))  # at once: what grows piece by piece is twice there while it moves
    search = _searching(index)
    return OtherIndex(search, None, "IndexFlatIP, exact", read=float(vectors.nbytes))


def faiss_ivf(vectors: Floats, threads: int) -> OtherIndex:
    """The inverted file of FAISS's guidelines: 4 sqrt(n) lists trained on 50 vectors each, bytes for numbers."""
    import faiss

    faiss.omp_set_num_threads(threads)
    count, dimension = vectors.shape
    lists = min(int(4 * count**0.5), count)
    index: Any = faiss.index_factory(dimension, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    sample = np.random.default_rng(0).permutation(count)[: 50 * lists]
    index.train(np.ascontiguousarray(vectors[np.sort(sample)]))
    for start in range(0, count, ADDED):
        index.add(np.ascontiguousarray(vectors[start : start + ADDED]))

    def widen(breadth: int) -> None:
        index.nprobe = min(breadth, lists)

    return OtherIndex(_searching(index), widen, f"IVF{lists},SQ8, probes as the breadth", PROBES)


def faiss_hnsw(vectors: Floats, threads: int) -> OtherIndex:
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = BUILD_BREADTH
    index.add(np.ascontiguousarray(vectors))

    def widen(breadth: int) -> None:
        index.hnsw.efSearch = breadth

    return OtherIndex(_searching(index), widen, f"IndexHNSWFlat, M {LINKS}, ef {BUILD_BREADTH}")


def hnswlib(vectors: Floats, threads: int) -> OtherIndex:
    import hnswlib as library

    index = library.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), ef_construction=BUILD_BREADTH, M=LINKS, random_seed=0)
    index.set_num_threads(threads)
    index.add_items(np.ascontiguousarray(vectors))

    def search(query: Floats, k: int) -> Rows:
        labels: Rows = index.knn_query(query[None], k=k, num_threads=1)[0][0].astype(np.int64)
        return labels

    return OtherIndex(search, index.set_ef, f"M {LINKS}, ef_construction {BUILD_BREADTH}")


def usearch(vectors: Floats, threads: int) -> OtherIndex:
    from usearch.index import Index

    index: Any = Index(ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=LINKS, expansion_add=BUILD_BREADTH)
    index.add(np.arange(len(vectors)), np.ascontiguousarray(vectors), threads=threads)

    def widen(breadth: int) -> None:
        index.expansion_search = breadth

    def search(query: Floats, k: int) -> Rows:
        keys: Rows = np.asarray(index.search(query, k).keys).astype(np.int64)
        return keys

    return OtherIndex(search, widen, f"connectivity {LINKS}, expansion_add {BUILD_BREADTH}, f32")


def _searching(index: Any) -> Callable[[Floats, int], Rows]:
    def search(query: Floats, k: int) -> Rows:
        rows: Rows = index.search(query[None], k)[1][0]
        return rows

    return search


RECALL_RIVALS: dict[str, Callable[[Floats, int], OtherIndex]] = {
    "faiss flat": faiss_flat,
    "faiss ivf": faiss_ivf,
    "faiss hnsw": faiss_hnsw,
    "hnswlib": hnswlib,
    "usearch": usearch,
}
GRAPHS = ("faiss hnsw", "hnswlib", "usearch")


def chosen(names: Sequence[str] | None) -> list[str]:
    """The indexes asked for: all for None, none for `none`; raises InputError for an unknown one."""
    wanted = [] if names == ["none"] else [*(names or RECALL_RIVALS)]
    if unknown := [name for name in wanted if name not in RECALL_RIVALS]:
        raise InputError(f"unknown index {unknown[0]!r}; there are {', '.join(RECALL_RIVALS)}")
    return wanted
