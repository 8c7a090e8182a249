"""Vectors as bytes: a quarter of the memory to read, and byte products. Shared by the scan and the inverted file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CollectionError
from ..platform.durable_io import storage
from .exact import Floats

BLOCK = 65_536
"""Vectors coded at a time: 100 MB at 384 dimensions."""
# Beyond the bound of `ceilings`: rounding of float32 scores and of the bound itself, for vectors of length 1.
ROUNDING = 1e-6
LONGER = 1.01
"""Times the recorded length: half precision is off by less."""
_LIMITS = threading.Lock()  # they are the whole process's
REFINE = 4
"""Candidates taken for each passage wanted: codes misplace some by a few ranks, hardly any by 4 times."""


@dataclass(frozen=True, slots=True)
class Coding:
    """largest: the magnitude coded as 127; residual: the largest distance of a vector from its code; longest: the
    longest vector."""

    largest: float
    residual: float
    longest: float = 1.0


def coded(vectors: Floats, largest: npt.ArrayLike) -> Floats:
    """Whole numbers of magnitude up to 127, scaled so that `largest` becomes 127.

    FAISS's `8bit_direct_signed` takes numbers as they are, of the stored vectors and, unlike its other scalar
    quantizers, of the query too: a unit vector handed over as it is would become a row of zeros. In return it
    multiplies bytes: 1.5 ms for 100,000 vectors of 384 dimensions on one core, where `8bit` takes 3.9 ms.
    """
    numbers: Floats = np.rint(vectors * _factor(largest))
    return numbers


def coded_queries(queries: Floats) -> tuple[Floats, npt.NDArray[np.float32]]:
    """Each query coded by its own largest magnitude, and those magnitudes, float32 [m, 1]."""
    largest = np.abs(queries).max(axis=1, keepdims=True)
    return coded(queries, largest), largest


def largest_magnitude(vectors: Floats) -> float:
    """The largest magnitude in any of `vectors` (float32 [n, d])."""
    return max(float(np.abs(vectors[start : start + BLOCK]).max()) for start in range(0, len(vectors), BLOCK))


def residuals(vectors: Floats, codes: Floats, largest: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """float64 [n]: the distance of each vector from what its code stands for."""
    restored = codes.astype(np.float64) / _factor(largest)
    return np.asarray(np.linalg.norm(vectors - restored, axis=1))


def ceilings(
    queries: Floats, coded: Floats, largest_query: Floats, last: Floats, stored: Coding
) -> npt.NDArray[np.float64]:
    """float64 [m]: scores that no vector exceeds whose code product is at most `last` (float32 [m]).

    With |v| <= l, q' and v' what the codes stand for, and residuals a >= |q - q'| and b >= |v - v'|:

        q.v = q'.v' + (q - q').v' + q.(v - v') <= q'.v' + a (l + b) + |q| b

    queries, coded, largest_query: float32 [m, d], their codes, and their largest magnitudes [m, 1]; `stored` is the
    vectors'.
    """
    products = last.astype(np.float64) * largest_query[:, 0] * stored.largest / 127**2
    own = residuals(queries, coded, largest_query)
    norms = np.linalg.norm(queries, axis=1).astype(np.float64)
    longest, residual = LONGER * stored.longest, stored.residual
    return np.asarray(products + own * (longest + residual) + norms * (residual + ROUNDING * longest))


def write(index: Any, path: Path) -> None:
    """Write a FAISS index to `path`; the caller syncs it."""
    import faiss

    with storage(path):
        try:
            faiss.write_index(index, str(path))
        except RuntimeError as error:  # FAISS reports a full disk as a failed write
            raise OSError(str(error)) from error


def read(path: Path, *kinds: str) -> Any:
    """The FAISS index in `path`, memory-mapped; raises CollectionError unless it is of a class among `kinds`.

    A file of a collection is hashed before this (see `collection.checking`).
    """
    import faiss

    flags = faiss.IO_FLAG_MMAP if "IndexIVFScalarQuantizer" in kinds else faiss.IO_FLAG_MMAP_IFC
    flags |= faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE  # larger than the file, and for Euclidean distances only
    try:
        with _bounded(path.stat().st_size):
            index = faiss.read_index(str(path), flags)
    except (OSError, RuntimeError, MemoryError) as error:
        raise CollectionError(f"{path} cannot be read as an index ({error}); index again") from error
    if type(index).__name__ not in kinds:
        raise CollectionError(f"{path} holds a {type(index).__name__}, not a {' or '.join(kinds)}; index again")
    return index


@contextmanager
def _bounded(size: int) -> Iterator[None]:
    """FAISS believes a file's lengths up to 1 TiB by itself; no array in a file is longer than the file."""
    import faiss

    with _LIMITS:
        before = faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()
        try:
            faiss.set_deserialization_vector_byte_limit(size)
            faiss.set_deserialization_loop_limit(size)
            yield
        finally:
            faiss.set_deserialization_vector_byte_limit(before[0])
            faiss.set_deserialization_loop_limit(before[1])


def _factor(largest: npt.ArrayLike) -> npt.NDArray[np.float32]:
    return np.asarray(127 / np.maximum(largest, 1e-30), dtype=np.float32)
