"""What a new version changes in the segments of the one before it: which passages it no longer has.

A document is known by a hash of all that it is: id, title, text and metadata. Models and settings are the same within a
collection, so an equal document has equal passages and vectors.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..platform.durable_io import storage
from ..platform.npy import ArrayWriter
from ..recall.exact import Rows
from .assemble import file_records
from .collection import Collection
from .document import Document, content_hash
from .manifest import DELETED, SegmentRecord, numbered
from .report import silent
from .segment import Segment


class Change:
    """The passages of a version that a new one still has: all, until they are dropped."""

    def __init__(self, before: Collection | None) -> None:
        """None: there is no version before, or nothing of it is of use."""
        self.before = before
        self._kept = np.ones(0 if before is None else before.rows, dtype=np.bool_)
        if before is not None and before.live is not None:
            self._kept &= before.live.mask
        self.dropped = 0
        """Passages that were dropped."""

    def drop(self, rows: Rows) -> None:
        """Drop the passages `rows`."""
        self.dropped += int(np.count_nonzero(self._kept[rows]))
        self._kept[rows] = False

    def has(self, row: int) -> bool:
        """Whether a passage is still there."""
        return bool(self._kept[row])

    @property
    def passages(self) -> int:
        """Passages that are still there."""
        return int(np.count_nonzero(self._kept))

    @property
    def documents(self) -> int:
        """Documents that are still there."""
        return sum(int(np.count_nonzero(segment.begins & kept)) for segment, kept in self._parts())

    def link(self, folder: Path) -> tuple[SegmentRecord, ...]:
        """The segments that have passages left as sub-folders of the new version's `folder`.

        A segment of a version of format 2, which is the version's own folder, is called by the version's number.
        """
        own = numbered(None if self.before is None else self.before.version)
        return tuple(
            link_segment(segment.folder, folder / (segment.record.name or own), segment.record, kept)
            for segment, kept in self._parts()
            if kept.any()
        )

    def _parts(self) -> Iterator[tuple[Segment, npt.NDArray[np.bool_]]]:
        """Each segment, and which of its passages are left."""
        for segment, start in () if self.before is None else self.before.spans:
            yield segment, self._kept[start : start + len(segment)]


class KnownDocuments:
    """The documents of a version by their hashes, to read a corpus again: what it still has, has not, and has new."""

    def __init__(self, before: Collection | None) -> None:
        self.change = Change(before)
        self._rows: dict[bytes, int] = {}
        self._seen: set[int] = set()
        self._told = False
        self.removed = 0
        """Documents that were dropped, once `left` was asked."""
        for segment, start in () if before is None else before.spans:
            self._rows |= {found: start + row for found, row in _documents(segment)}

    def fresh(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Those of a corpus that the version has not."""
        for document in documents:
            row = self._rows.get(content_hash(document)) if self._rows else None
            if row is None:
                yield document
            else:
                self._seen.add(row)

    @property
    def kept(self) -> int:
        """Documents that were seen again."""
        return len(self._seen)

    @property
    def dimension(self) -> int:
        """Numbers of a vector; 0 where there is no version before."""
        return 0 if self.change.before is None else self.change.before.manifest.dimension

    def left(self) -> Change:
        """Once the corpus was read: the change in which every document is dropped that it no longer had."""
        before = self.change.before
        if before is None or self._told:
            return self.change
        for segment, start in before.spans:
            first = np.flatnonzero(segment.begins)
            seen = np.array([start + row in self._seen for row in first.tolist()], dtype=np.bool_)
            self.removed += int(np.count_nonzero(~seen & segment.live_mask[first]))
            self.change.drop(start + np.flatnonzero(np.repeat(~seen, np.diff([*first, len(segment)]))))
        self._told = True
        return self.change


def _documents(segment: Segment) -> Iterator[tuple[bytes, int]]:
    """The hash of each document that is not deleted, with its first row; nothing of a segment without hashes."""
    if segment.contents is not None:
        for row in np.flatnonzero(segment.begins & segment.live_mask).tolist():
            yield segment.contents[row].tobytes(), row


def link_segment(
    source: Path, target: Path, record: SegmentRecord, kept: npt.NDArray[np.bool_] | None = None,
    leave_out: frozenset[str] = frozenset(),
) -> SegmentRecord:  # fmt: skip
    """A segment of another version, in `source`, as the folder `target`: hard links, as its files never change.

    kept: bool [passages]; the others are marked as deleted. None: those that are.
    leave_out: files that the new segment is to have anew.
    """
    anew = leave_out if kept is None else leave_out | {DELETED}
    files = {name: file for name, file in record.files.items() if name not in anew}
    with storage(target):
        target.mkdir()
        for name in files:
            os.link(source / name, target / name)
    linked = record.model_copy(update={"name": target.name, "files": files})
    return linked if kept is None else mark(target, linked, kept)


def mark(folder: Path, record: SegmentRecord, kept: npt.NDArray[np.bool_]) -> SegmentRecord:
    """Mark the passages of a segment in `folder` as deleted that are not `kept` (bool [passages])."""
    deleted = int(np.count_nonzero(~kept))
    files = dict(record.files)
    if deleted:
        writer = ArrayWriter(folder / DELETED, np.uint8)
        writer.append(np.packbits(~kept, bitorder="little"))
        writer.close()
        files |= file_records([folder / DELETED], silent)
    return record.model_copy(update={"deleted": deleted, "files": files})
