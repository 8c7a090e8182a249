"""Arrays in `.npy` files: appended to while a collection is built, memory-mapped when it is open."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CollectionError
from .durable_io import storage

Array = npt.NDArray[Any]
HEADER = 128
"""Bytes of the header we write: what numpy itself takes for such shapes, with room for the row count to grow."""


class ArrayWriter:
    """Appends to a `.npy` file whose number of rows is known only at the end."""

    def __init__(self, path: Path, dtype: npt.DTypeLike, row_shape: tuple[int, ...] = ()) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self._row_shape = row_shape
        self._rows = 0
        with storage(path):
            self._file = path.open("wb")
            self._file.write(self._header())

    def append(self, array: Array) -> None:
        """Write `array` ([m, *row_shape], of the writer's dtype) behind what is there."""
        with storage(self.path):
            self._file.write(np.ascontiguousarray(array, dtype=self.dtype).data)
        self._rows += len(array)

    def close(self) -> None:
        """Put the row count into the header; whoever publishes the file forces it to the disk."""
        with storage(self.path):
            self._file.seek(0)
            self._file.write(self._header())
            self._file.close()

    def abandon(self) -> None:
        """Close the file as it is: the job failed."""
        with contextlib.suppress(OSError):  # closing flushes: on a full disk it fails again, and the first error counts
            self._file.close()

    def _header(self) -> bytes:
        shape = (self._rows, *self._row_shape)
        fields = repr({"descr": self.dtype.str, "fortran_order": False, "shape": shape})
        return b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little") + fields.ljust(HEADER - 11).encode() + b"\n"


def open_array(path: Path, dtype: npt.DTypeLike, dimensions: int) -> Array:
    """The array in the `.npy` file `path`, memory-mapped; raises CollectionError when it is not what is expected."""
    try:
        # A plain view of the map: every slice of a `np.memmap` pays for its subclass, 0.2 ms a query.
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    except (OSError, ValueError, EOFError) as error:
        raise CollectionError(f"{path} cannot be read as an array ({error}); index again") from error
    if array.dtype != np.dtype(dtype) or array.ndim != dimensions:
        found = f"{array.ndim}-dimensional {array.dtype}"
        raise CollectionError(
            f"{path} holds a {found} array, not a {dimensions}-dimensional {np.dtype(dtype)}; index again"
        )
    return array
