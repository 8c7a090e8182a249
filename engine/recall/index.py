"""Index: the nearest passages of a query, whatever was built; vectors.npy is the one home of the vectors."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import numpy as np

from ..errors import CollectionError, InputError
from ..platform.npy import open_array
from . import exact
from .exact import Floats, Rows
from .int8_codes import Coding
from .ivf import Ivf
from .planning import IndexPlan
from .row_mask import RowMask
from .scan import Scan

VECTORS = "vectors.npy"
CODES = "codes.faiss"
INVERTED = "inverted.faiss"
# Up to so many allowed passages (or a 150th of all) their vectors are read and compared one by one: 0.45 us for each at
# 384 dimensions, where codes behind a filter take 2 ns for every passage there is and up to 0.15 us for an allowed one.
FEW, FEW_OF = 1024, 150


class Index:
    """Searches one version's vectors. One thread at a time: FAISS settings are changed between searches."""

    def __init__(self, vectors: Floats, finder: Scan | Ivf | None = None, longest: float = 1.0) -> None:
        """`longest`: no vector (float32 [n, d]) is longer."""
        self.vectors = vectors
        self._finder = finder
        self._longest = longest

    @classmethod
    def open(cls, folder: Path, plan: IndexPlan, *, threads: int | None = None) -> Index:
        """The index in `folder` as `plan` describes it, memory-mapped.

        `threads`: CPU threads for FAISS; None: one a core this process may use. Raises CollectionError when the files
        do not fit each other.
        """
        vectors = open_array(folder / VECTORS, np.float32, 2)
        threads = threads or len(os.sched_getaffinity(0))
        finder: Scan | Ivf
        if plan.kind == "flat":
            return cls(vectors, longest=plan.longest)
        coding = Coding(plan.largest, plan.residual, plan.longest)
        if plan.kind == "scan":
            finder = Scan.open(folder / CODES, coding, threads=threads)
        else:
            finder = Ivf.open(folder / INVERTED, coding, probes=plan.probes, threads=threads)
        if finder.shape != vectors.shape:
            raise CollectionError(f"{folder} holds codes of shape {finder.shape} for {vectors.shape}; index again")
        return cls(vectors, finder, plan.longest)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dimension(self) -> int:
        return int(self.vectors.shape[1])

    def search(self, queries: Floats, k: int, allowed: RowMask | None = None) -> tuple[Floats, Rows]:
        """The `k` nearest passages of each query, fewer when the collection has fewer.

        queries: float32 [n, d], of unit length where the similarity is the cosine
        allowed: the only passages that count; among them the search is exact, whatever the index
        returns: scores float32 [n, k], inner products descending, ties by row; rows int64 [n, k]
        Raises InputError on a query of another dimension or with a number that is not finite.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise InputError(f"queries of shape {queries.shape} do not fit vectors of dimension {self.dimension}")
        if not np.isfinite(queries).all():
            raise InputError("a query vector holds a number that is not finite")
        if k < 1:
            raise InputError(f"cannot search for {k} passages; ask for at least 1")
        if allowed is not None:
            return self._search_allowed(queries, min(k, allowed.count), allowed)
        k = min(k, len(self))
        if self._finder is None or not len(queries):
            return exact.search(self.vectors, queries, k, self._longest)
        found = [self._rank(query, rows, ceiling, k) for query, rows, ceiling in self._candidates(queries, k)]
        return np.stack([scores for scores, _ in found]), np.stack([rows for _, rows in found])

    def _search_allowed(self, queries: Floats, k: int, allowed: RowMask) -> tuple[Floats, Rows]:
        finder = self._finder
        if not k:
            return np.empty((len(queries), 0), dtype=np.float32), np.empty((len(queries), 0), dtype=np.int64)
        few = allowed.count <= max(FEW, len(self) // FEW_OF)
        if few or finder is None or not len(queries) or (isinstance(finder, Ivf) and not finder.bounded):
            return exact.search_among(self.vectors, queries, k, allowed.rows, self._longest)
        candidates = finder.candidates if isinstance(finder, Scan) else finder.allowed_candidates
        found = []
        for query, rows, ceiling in zip(queries, *candidates(queries, k, allowed), strict=True):
            scores, best = exact.rank(self.vectors, query, rows, k)
            if scores[-1] <= ceiling:
                alone = exact.search_among(self.vectors, query[None], k, allowed.rows, self._longest)
                scores, best = alone[0][0], alone[1][0]
            found.append((scores, best))
        return np.stack([scores for scores, _ in found]), np.stack([rows for _, rows in found])

    def _candidates(self, queries: Floats, k: int) -> Iterator[tuple[Floats, Rows, float]]:
        """Each query, rows among which its `k` nearest are sought, and the score no other row exceeds for certain."""
        if isinstance(self._finder, Scan):
            rows, ceilings = self._finder.candidates(queries, k)
            yield from zip(queries, rows, ceilings.tolist(), strict=True)
        elif self._finder is not None:
            found = self._finder.candidates(queries, k)
            yield from zip(queries, found, repeat(-math.inf), strict=False)

    def _rank(self, query: Floats, rows: Rows, ceiling: float, k: int) -> tuple[Floats, Rows]:
        scores, best = exact.rank(self.vectors, query, rows, k)
        if scores[-1] > ceiling:
            return scores, best
        all_scores, all_best = exact.search(self.vectors, query[None], k, self._longest)
        return all_scores[0], all_best[0]
