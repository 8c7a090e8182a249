"""The passages that a filtered search may return: one bit each."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .exact import Rows


class RowMask:
    """Immutable and compared by identity. A million passages take 125 kB, so some hundred may be kept."""

    def __init__(self, mask: npt.NDArray[np.bool_]) -> None:
        """mask: bool [n], True for a row that may be returned."""
        self._bits = np.packbits(mask, bitorder="little")
        self._size = len(mask)
        self.count = int(np.count_nonzero(mask))
        self._parts: dict[tuple[int, ...], tuple[RowMask, ...]] = {}

    @property
    def rows(self) -> Rows:
        """int64 [count], rising."""
        return np.flatnonzero(self.mask)

    def holds(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """bool [m]: which of `rows` (int64 [m]) may be returned."""
        held: npt.NDArray[np.bool_] = (self._bits[rows >> 3] >> (rows & 7) & 1).astype(bool)
        return held

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """bool [n], as it was given."""
        return np.unpackbits(self._bits, count=self._size, bitorder="little").astype(bool)

    def parts(self, starts: tuple[int, ...]) -> tuple[RowMask, ...]:
        """The rows from each of `starts` (rising, the first 0) up to the next, counted from it; worked out once."""
        if starts not in self._parts:
            self._parts[starts] = tuple(RowMask(part) for part in np.split(self.mask, starts[1:]))
        return self._parts[starts]

    @property
    def words(self) -> npt.NDArray[np.int32]:
        """int32 [ceil(n / 32)]: bit r % 32 of word r // 32 is row r's, as our scan on a GPU reads it."""
        return np.pad(self._bits, (0, -len(self._bits) % 4)).view("<i4").astype(np.int32)

    @cached_property
    def selector(self) -> Any:
        """For FAISS: it reads this object's own bits."""
        import faiss

        make: Any = faiss.IDSelectorBitmap
        return make(self._bits)

    def parameters(self, **others: int) -> Any:
        """FAISS's search parameters for this selection; `others` (nprobe) make them those of an inverted file."""
        import faiss

        make: Any = faiss.SearchParametersIVF if others else faiss.SearchParameters
        return make(sel=self.selector, **others)
