"""Metadata by value: every value of every field in order, and the passages that have it. What filters look up.

facets.*        each distinct (field, value) as JSON, sorted by field, then booleans, numbers, texts, then value
facets.rows.*   int32, the passages with it, rising

A lookup is a binary search in the memory map and a mark on each passage found: nothing is loaded when a collection is
opened, and a range is one contiguous slice.
"""

from __future__ import annotations

import json
import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CollectionError
from ..text.tokens import cumulative
from .ragged import Ragged, RaggedWriter, data_file, encode_strings

FACETS = "facets"
ROWS = "facets.rows"
Mask = npt.NDArray[np.bool_]
Value = bool | int | float | str
Key = tuple[str, int, Value]
_AFTER_LAST_KIND = 3


class MetadataIndex:
    """The values of a collection's metadata (see `filters.Values`)."""

    def __init__(self, keys: Ragged, rows: Ragged, passages: int) -> None:
        self._keys = keys
        self._rows = rows
        self._passages = passages

    @classmethod
    def open(cls, folder: Path, metadata: Ragged) -> MetadataIndex:
        """Those written into a version's folder; for a version older than them, made of its metadata.

        Raises CollectionError when the files do not fit each other.
        """
        if not data_file(folder / FACETS).exists():
            return cls.of(metadata)
        facets = cls(Ragged.open(folder / FACETS, np.uint8), Ragged.open(folder / ROWS, np.int32), len(metadata))
        if len(facets._keys) != len(facets._rows):
            raise CollectionError(f"{folder / FACETS} does not fit {ROWS}; index again")
        return facets

    @classmethod
    def of(cls, metadata: Ragged) -> MetadataIndex:
        """The values in `metadata` (JSON of each passage, or nothing); 10 us a passage of three fields."""
        codes: dict[Key, int] = {}
        found, rows = array("q"), array("i")
        before, keys = b"", []
        for row in range(len(metadata)):
            data = metadata[row].tobytes()
            if data != before:  # the passages of a document share its metadata
                keys = list(dict.fromkeys(_keys("", json.loads(data)))) if data else []
                before = data
            for key in keys:
                found.append(codes.setdefault(key, len(codes)))
                rows.append(row)
        ordered = sorted(codes)
        place = np.empty(len(codes), dtype=np.int64)
        place[[codes[key] for key in ordered]] = np.arange(len(ordered))
        places = place[np.frombuffer(found, dtype=np.int64)] if len(found) else np.empty(0, dtype=np.int64)
        counts = np.bincount(places, minlength=len(ordered))
        flat = np.frombuffer(rows, dtype=np.int32) if len(rows) else np.empty(0, dtype=np.int32)
        names, lengths = encode_strings([_dump(key) for key in ordered])
        return cls(
            Ragged(names, cumulative(lengths)),
            Ragged(flat[np.argsort(places, kind="stable")], cumulative(counts)),
            len(metadata),
        )

    def write(self, folder: Path) -> None:
        """Write both stores into `folder`, forced to the disk."""
        for name, store in ((FACETS, self._keys), (ROWS, self._rows)):
            writer = RaggedWriter(folder / name, store.data.dtype)
            try:
                writer.append(store.data, np.diff(store.offsets))
                writer.close()
            finally:
                writer.abandon()

    def equal(self, field: str, value: Value) -> Mask:
        key = (field, _kind(value), value)
        return self._mask(self._left(key), self._right(key))

    def above(self, field: str, value: float | str, *, inclusive: bool) -> Mask:
        key = (field, _kind(value), value)
        start = self._left(key) if inclusive else self._right(key)
        return self._mask(start, self._left((field, _kind(value) + 1)))

    def below(self, field: str, value: float | str, *, inclusive: bool) -> Mask:
        key = (field, _kind(value), value)
        stop = self._right(key) if inclusive else self._left(key)
        return self._mask(self._left((field, _kind(value))), stop)

    def present(self, field: str) -> Mask:
        return self._mask(self._left((field,)), self._left((field, _AFTER_LAST_KIND)))

    def _mask(self, start: int, stop: int) -> Mask:
        mask = np.zeros(self._passages, dtype=np.bool_)
        mask[self._rows.data[self._rows.offsets[start] : self._rows.offsets[max(start, stop)]]] = True
        return mask

    def _left(self, key: tuple[Any, ...]) -> int:
        return bisect_left(range(len(self._keys)), key, key=self._key)

    def _right(self, key: tuple[Any, ...]) -> int:
        return bisect_right(range(len(self._keys)), key, key=self._key)

    def _key(self, place: int) -> tuple[Any, ...]:
        field, value = json.loads(self._keys[place].tobytes())
        return field, _kind(value), value


def _keys(field: str, value: Any) -> Iterator[Key]:
    """The keys of a JSON value: the members of objects under `field.member`, the elements of lists one by one."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _keys(f"{field}.{name}" if field else name, member)
    elif isinstance(value, list):
        for element in value:
            yield from _keys(field, element)
    elif isinstance(value, str | bool | int) or (isinstance(value, float) and not math.isnan(value)):
        yield field, _kind(value), value


def _kind(value: Value) -> int:
    if isinstance(value, bool):
        return 0
    return 2 if isinstance(value, str) else 1


def _dump(key: Key) -> str:
    return json.dumps([key[0], key[2]], ensure_ascii=False)
