"""Segment: what one build added, open for reading. Everything is a memory map, looked up by row."""

from __future__ import annotations

from bisect import bisect_left
from copy import copy
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import CollectionError
from ..platform.npy import open_array
from ..recall import Index, RowMask
from ..recall.exact import Rows
from .manifest import DELETED, SegmentRecord, TokenDtype
from .metadata_index import MetadataIndex
from .ragged import Ragged
from .token_files import LEXICON, TOKENS

PLACES = "places.npy"
ORDER = "ids.order.npy"
CONTENTS = "contents.npy"
"""A hash of each passage's document, by which indexing again knows what has not changed (see `changes`)."""
FIRST_CHUNK = 1
"""Number of a document's first chunk; that of a whole document is below it."""


class Segment:
    """One segment of a version. Immutable, so any number of threads may read it; rows count from 0 in each."""

    def __init__(
        self, folder: Path, record: SegmentRecord, token_dtype: TokenDtype | None, threads: int | None = None
    ) -> None:
        """Opens files that `check_files` found right; raises CollectionError where they do not fit each other."""
        self.folder = folder
        self.record = record
        self.index = Index.open(folder, record.index, threads=threads)
        self.ids = Ragged.open(folder / "ids", np.uint8)
        self.titles = Ragged.open(folder / "titles", np.uint8)
        self.texts = Ragged.open(folder / "texts", np.uint8)
        self.metadata = Ragged.open(folder / "metadata", np.uint8)
        self.places = open_array(folder / PLACES, np.int64, 2)
        self.tokens = None if token_dtype is None else Ragged.open(folder / TOKENS, token_dtype)
        self.frequencies = None if token_dtype is None else open_array(folder / LEXICON, np.uint32, 1)
        self._order = open_array(folder / ORDER, np.int64, 1)
        self._check_counts()
        self.facets = MetadataIndex.open(folder, self.metadata)
        """The values of the passages' metadata."""
        self.live = _live(folder, record)
        """The passages that are not deleted; None: all."""

    def __len__(self) -> int:
        """Passages, those that are deleted too."""
        return self.record.passages

    def marked(self, folder: Path, record: SegmentRecord) -> Segment:
        """The same segment in another version: the files that are open, and what is deleted there."""
        other = copy(self)
        other.folder, other.record = folder, record
        other.live = _live(folder, record)
        return other

    def is_same(self, record: SegmentRecord, token_dtype: TokenDtype | None) -> bool:
        """Whether `record` is this segment, whatever is deleted of it."""
        own = None if self.tokens is None else self.tokens.data.dtype.name
        return (self.record.name, _unmarked(self.record), own) == (record.name, _unmarked(record), token_dtype)

    def is_live(self, row: int) -> bool:
        """Whether a passage is not deleted."""
        return self.live is None or bool(self.live.holds(np.array([row]))[0])

    @property
    def live_mask(self) -> npt.NDArray[np.bool_]:
        """bool [n]: the passages that are not deleted."""
        return np.ones(len(self), dtype=np.bool_) if self.live is None else self.live.mask

    @property
    def begins(self) -> npt.NDArray[np.bool_]:
        """bool [n]: the passages with which a document begins, deleted ones too."""
        begins: npt.NDArray[np.bool_] = self.places[:, 0] <= FIRST_CHUNK
        return begins

    @cached_property
    def contents(self) -> npt.NDArray[np.uint8] | None:
        """uint8 [n, 16]: the hash of each passage's document; None where the segment is older than they."""
        path = self.folder / CONTENTS
        return open_array(path, np.uint8, 2) if path.exists() else None

    def find(self, identity: bytes) -> int | None:
        """The row of the passage with this id, by binary search; None: there is none, or it is deleted."""
        place = bisect_left(range(len(self)), identity, key=lambda at: self.ids[int(self._order[at])].tobytes())
        if place == len(self):
            return None
        row = int(self._order[place])
        return row if self.ids[row].tobytes() == identity and self.is_live(row) else None

    def document_rows(self, document: str) -> Rows:
        """int64, rising: the passages of a document; empty where it has none here, or they are deleted.

        The passages of one document stand behind each other: the whole of it, or its chunks from 1.
        """
        name = document.encode("utf-8", "surrogatepass")
        if (whole := self.find(name)) is not None and not self.places[whole, 0]:
            return np.array([whole], dtype=np.int64)
        first = self.find(name + b"#1")
        if first is None or self.places[first, 0] != 1:
            return np.empty(0, dtype=np.int64)
        chunks = self.places[first:, 0]
        ends = np.flatnonzero(chunks[1:] != np.arange(2, len(chunks) + 1))
        return np.arange(first, first + (int(ends[0]) + 1 if len(ends) else len(chunks)), dtype=np.int64)

    def _check_counts(self) -> None:
        expected = len(self)
        counts = {
            "vectors": len(self.index), "ids": len(self.ids), "titles": len(self.titles), "texts": len(self.texts),
            "metadata": len(self.metadata), "places": len(self.places), "id order": len(self._order),
            "tokens": expected if self.tokens is None else len(self.tokens),
        }  # fmt: skip
        for name, count in counts.items():
            if count != expected:
                raise CollectionError(f"{self.folder} holds {count} {name} for {expected} passages; index again")


def _unmarked(record: SegmentRecord) -> SegmentRecord:
    files = {name: file for name, file in record.files.items() if name != DELETED}
    return record.model_copy(update={"deleted": 0, "files": files})


def _live(folder: Path, record: SegmentRecord) -> RowMask | None:
    if not record.deleted:
        return None
    bits = open_array(folder / DELETED, np.uint8, 1)
    if len(bits) != -(-record.passages // 8):
        raise CollectionError(f"{folder / DELETED} has bits of {8 * len(bits)} passages, not of {record.passages}")
    live = RowMask(~np.unpackbits(bits, count=record.passages, bitorder="little").astype(bool))
    if live.count != record.live:
        raise CollectionError(
            f"{folder} has {live.count} passages that are not deleted, its manifest says {record.live}"
        )
    return live
