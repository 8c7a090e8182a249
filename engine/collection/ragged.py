"""Ragged: rows of different lengths in two memory-mapped arrays, flat data and offsets.

One idea for everything a passage has of variable length: token ids, text, title, id, metadata.

    <name>.npy           [total]   every row laid end to end
    <name>.offsets.npy   int64 [n + 1]   row i is data[offsets[i] : offsets[i + 1]]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import CollectionError
from ..platform.npy import Array, ArrayWriter, open_array
from ..text.tokens import cumulative, ragged_indices


class Ragged:
    """`n` rows of one dtype, read from a memory map; opening costs the same for ten rows and for ten million."""

    def __init__(self, data: Array, offsets: npt.NDArray[np.int64]) -> None:
        self.data = data
        self.offsets = offsets

    @classmethod
    def open(cls, path: Path, dtype: npt.DTypeLike) -> Ragged:
        """The store `<path>.npy` and `<path>.offsets.npy`, whose data must be of `dtype`.

        Raises CollectionError when a file is missing, is no array, or the two do not belong together.
        """
        data = open_array(data_file(path), dtype, 1)
        offsets = open_array(offsets_file(path), np.int64, 1)
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(data):
            raise CollectionError(f"{offsets_file(path)} does not fit {data_file(path).name}; index again")
        return cls(data, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Array:
        return np.asarray(self.data[self.offsets[row] : self.offsets[row + 1]])

    def take(self, rows: npt.ArrayLike) -> tuple[Array, npt.NDArray[np.int64]]:
        """The rows `rows` (int [m]) laid end to end, and their lengths (int64 [m])."""
        rows = np.asarray(rows, dtype=np.int64)
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        return np.asarray(self.data[ragged_indices(starts, lengths)]), lengths

    def strings(self, rows: npt.ArrayLike) -> list[str]:
        """The rows `rows` (int [m]) of a store of UTF-8 bytes, as text."""
        return [self[row].tobytes().decode() for row in np.asarray(rows, dtype=np.int64)]


class RaggedWriter:
    """Appends rows to a Ragged store."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self.data = ArrayWriter(data_file(path), dtype)
        self.offsets = ArrayWriter(offsets_file(path), np.int64)
        self.offsets.append(np.zeros(1, dtype=np.int64))
        self._total = 0

    def append(self, flat: Array, lengths: npt.NDArray[np.int64]) -> None:
        """Write `len(lengths)` rows, laid end to end in `flat`."""
        self.data.append(flat)
        self.offsets.append(cumulative(lengths)[1:] + self._total)
        self._total += len(flat)

    def close(self) -> None:
        """Finish both files."""
        self.data.close()
        self.offsets.close()

    def abandon(self) -> None:
        """Close both files as they are: the job failed."""
        self.data.abandon()
        self.offsets.abandon()


def data_file(path: Path) -> Path:
    return path.with_name(path.name + ".npy")


def offsets_file(path: Path) -> Path:
    return path.with_name(path.name + ".offsets.npy")


def encode_strings(strings: Sequence[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Rows of UTF-8 bytes as a Ragged store keeps them: laid end to end, and their lengths."""
    encoded = [text.encode() for text in strings]
    flat = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    return flat, np.array([len(text) for text in encoded], dtype=np.int64)
