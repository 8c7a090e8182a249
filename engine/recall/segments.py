"""The nearest passages over several segments, each with an index of its own, some of its passages perhaps deleted.

Each segment's nearest are merged by score and row, so the result is exact where each is. What is deleted does not take
the path of a filter, which reads every cluster of an inverted file: more is asked for, and the deleted are dropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from . import exact
from .exact import Floats, Rows
from .index import Index
from .row_mask import RowMask

# Asked for beyond the share that is deleted: whole topics may be.
SPARE = 16
WIDEN = 4
# A segment is first asked for so many times its share of the nearest, and so many more; where its last one may still
# be among the nearest of all, for as many as all of them. Comparing 500 vectors exactly takes a millisecond.
FAIR, MORE = 1.5, 8
MOST = 4096
"""Asked for at most to get past what is deleted; beyond it those that are left are searched as under a filter."""


@dataclass(frozen=True, slots=True)
class Part:
    """A segment's index, and its passages that are not deleted (None: all)."""

    index: Index
    live: RowMask | None = None

    @property
    def count(self) -> int:
        """Passages that are not deleted."""
        return len(self.index) if self.live is None else self.live.count

    def search(self, queries: Floats, k: int) -> tuple[Floats, Rows]:
        """The `k` nearest passages that are not deleted: float32 and int64 [m, min(k, count)]."""
        k = min(k, self.count)
        if self.live is None or not k:
            return self.index.search(queries, k) if k else _none(len(queries))
        scores = np.empty((len(queries), k), dtype=np.float32)
        rows = np.empty((len(queries), k), dtype=np.int64)
        waiting = np.arange(len(queries))
        wanted = k * len(self.index) // self.live.count + SPARE
        while len(waiting) and wanted <= max(MOST, 2 * k):
            found = self.index.search(queries[waiting], wanted)
            short = []
            for place, some, near in zip(waiting.tolist(), *found, strict=True):
                kept = np.flatnonzero(self.live.holds(near))[:k]
                if len(kept) < k:
                    short.append(place)
                else:
                    scores[place], rows[place] = some[kept], near[kept]
            waiting, wanted = np.array(short, dtype=np.int64), wanted * WIDEN
        if len(waiting):
            scores[waiting], rows[waiting] = self.index.search(queries[waiting], k, self.live)
        return scores, rows


class SegmentedIndex:
    """The segments of a collection as one index; rows count through all of them. One thread at a time (see `Index`)."""

    def __init__(self, parts: Sequence[Part], dimension: int) -> None:
        self.parts = tuple(parts)
        self.dimension = dimension
        bounds = np.cumsum([0, *(len(part.index) for part in parts)])
        self.starts: tuple[int, ...] = tuple(bounds[:-1].tolist())
        """The row at which each segment begins."""
        self._rows = int(bounds[-1])

    def __len__(self) -> int:
        """Rows, those that are deleted too."""
        return self._rows

    @property
    def count(self) -> int:
        """Passages that are not deleted."""
        return sum(part.count for part in self.parts)

    def search(self, queries: Floats, k: int, allowed: RowMask | None = None) -> tuple[Floats, Rows]:
        """The `k` nearest passages of each query, fewer where there are fewer (see `Index.search`).

        allowed: the only passages that count, none of them deleted
        """
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise InputError(f"queries of shape {queries.shape} do not fit vectors of dimension {self.dimension}")
        if len(self.parts) == 1 and allowed is None:
            return self.parts[0].search(queries, k)
        among = (None,) * len(self.parts) if allowed is None else allowed.parts(self.starts)
        there = [part.count if some is None else some.count for part, some in zip(self.parts, among, strict=True)]
        asked = [min(k, count, math.ceil(FAIR * k * count / max(1, sum(there))) + MORE) for count in there]
        found = [self._found(number, queries, wanted, among[number]) for number, wanted in enumerate(asked)]
        while found:
            scores, rows = _merged(found, k)
            last = scores[:, -1] if scores.shape[1] == k else np.full(len(queries), -np.inf, dtype=np.float32)
            short = [
                number for number, (own, _) in enumerate(found)
                if asked[number] < min(k, there[number]) and (own[:, -1] >= last).any()
            ]  # fmt: skip
            if not short:
                return scores, rows
            for number in short:
                asked[number] = min(k, there[number])
                found[number] = self._found(number, queries, asked[number], among[number])
        return _none(len(queries))

    def _found(self, number: int, queries: Floats, k: int, allowed: RowMask | None) -> tuple[Floats, Rows]:
        """The `k` nearest of one segment, with rows counted through all of them."""
        part = self.parts[number]
        if not k:
            return _none(len(queries))
        scores, rows = part.search(queries, k) if allowed is None else part.index.search(queries, k, allowed)
        return scores, rows + self.starts[number]

    @property
    def vectors(self) -> Floats:
        """float32 [n, d]: those of all rows; a copy where there are several segments."""
        if len(self.parts) == 1:
            return self.parts[0].index.vectors
        empty = np.empty((0, self.dimension), dtype=np.float32)
        return np.concatenate([empty, *(part.index.vectors for part in self.parts)])

    def products(self, query: Floats, rows: Rows) -> Floats:
        """float32 [m]: the exact inner product of `query` (float32 [d]) with each of the `rows` (int64 [m])."""
        scores = np.empty(len(rows), dtype=np.float32)
        owners = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(owners).tolist():
            own = owners == number
            scores[own] = exact.products(self.parts[number].index.vectors, query, rows[own] - self.starts[number])
        return scores


class Filtered:
    """An index that finds only the passages a filter allows."""

    def __init__(self, index: SegmentedIndex, allowed: RowMask) -> None:
        self._index = index
        self._allowed = allowed

    def search(self, queries: Floats, k: int) -> tuple[Floats, Rows]:
        """`SegmentedIndex.search` among the allowed passages."""
        return self._index.search(queries, k, self._allowed)


def _merged(found: Sequence[tuple[Floats, Rows]], k: int) -> tuple[Floats, Rows]:
    """The `k` best of what segments found, ties by row."""
    scores = np.concatenate([scores for scores, _ in found], axis=1)
    rows = np.concatenate([rows for _, rows in found], axis=1)
    best = np.lexsort((rows, -scores))[:, :k]
    return np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)


def _none(queries: int) -> tuple[Floats, Rows]:
    return np.empty((queries, 0), dtype=np.float32), np.empty((queries, 0), dtype=np.int64)
