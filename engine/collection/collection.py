"""Collection: an indexed corpus, open for reading. Everything is a memory map, looked up by row."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import CollectionError, InputError
from ..recall import LexicalIndex, Part, RowMask, SegmentedIndex
from ..recall.exact import Rows
from ..scoring.lexical import Lexicon
from ..text.tokens import TokenBatch, concatenate, cumulative, pack
from . import fitted_weights, versions
from .checking import check_files, sound_segments
from .filtered_rows import FilteredRows
from .fitted_weights import FittedWeights
from .manifest import CollectionManifest
from .metadata_values import MetadataValues
from .ragged import Ragged
from .segment import Segment

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a passage was in its document: its chunk (0: it is the whole document, else from 1) and its characters."""

    document: str
    chunk: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A stored passage: its id, its document's id, its text, title and metadata."""

    id: str
    document: str
    text: str
    title: str
    metadata: dict[str, Any]


class Collection:
    """One version of an indexed corpus; a row is a passage, counted through its segments. Immutable, so any number of
    threads may read it.

    The version stays readable while newer ones are published.
    """

    def __init__(
        self, path: Path, folder: Path, manifest: CollectionManifest, segments: Sequence[Segment] = (),
        left_out: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """`segments`: those of the manifest, open; `left_out`: why others of the version are in neither;
        `Collection.open` is the way in."""
        self.path = path
        self.folder = folder
        self.manifest = manifest
        self.segments = tuple(segments)
        self.left_out = tuple(left_out)
        """What is wrong with the segments that were left out, a sentence each (see `open`)."""
        parts = [Part(segment.index, segment.live) for segment in segments]
        self.index = SegmentedIndex(parts, manifest.dimension)
        self._starts = np.array(self.index.starts, dtype=np.int64)
        self.live = self._all_live()
        """The passages that are not deleted; None: all."""
        self.lexical = self._words()
        """The words of the passages; None: there are none."""
        self.facets = MetadataValues([segment.facets for segment in segments])
        """The values of the passages' metadata."""
        self.filtered = FilteredRows(self.facets, self.live)
        """Which passages a parsed filter leaves (see `filters.parse`)."""
        self._check()

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        version: versions.Pointer | None = None,
        threads: int | None = None,
        before: Collection | None = None,
        partial: bool = False,
    ) -> Collection:
        """The current version of the collection folder `path`, or the one that `version` points to.

        Checked before anything is read: the pointer's hash of the manifest, the manifest, that its files and no others
        are there, plain and of their size, and every file's hash, a second a GB on each core (see `check_files`).
        `threads`: CPU threads of the index; None: one a core. `before`: an older version that is open: what it shares
        with this one is not opened and hashed again. `partial`: damaged segments are left out, as if they were not
        there, as long as there is a sound one; what is opened so cannot be changed. Raises CollectionError.
        """
        path = Path(path)
        pointer = version or versions.current_pointer(path)
        folder = path / versions.VERSIONS / pointer.version
        return open_version(folder, pointer.manifest_sha256, threads=threads, before=before, partial=partial)

    def verify(self) -> None:
        """Check the files again, as opening did; raises CollectionError when one has changed since."""
        check_files(self.folder, self.manifest)

    @property
    def version(self) -> str:
        return self.manifest.version

    @cached_property
    def fitted(self) -> FittedWeights | None:
        """The weights of the final order that are kept with the collection, and the models they were fitted with."""
        return fitted_weights.read(self.path)

    def __len__(self) -> int:
        """Passages that are not deleted."""
        return self.index.count

    @property
    def spans(self) -> list[tuple[Segment, int]]:
        """Each segment with the row at which it begins."""
        return list(zip(self.segments, self.index.starts, strict=True))

    @property
    def rows(self) -> int:
        """Rows, those of deleted passages too: each row is below it."""
        return len(self.index)

    def tokens(self, rows: npt.ArrayLike) -> TokenBatch:
        """The stored token ids of the passages `rows` (int [m]), without special tokens: those of the
        rerankers that `manifest.has_ids_of` says.

        Raises CollectionError when there are none.
        """
        stored, rows = self.token_parts(), np.asarray(rows, dtype=np.int64)
        if len(stored) == 1:
            return _batch(stored[0], rows)
        owners = self._owners(rows)
        order = np.argsort(owners, kind="stable")
        parts = [_batch(stored[number], rows[owners == number] - self._starts[number]) for number in np.unique(owners)]
        return concatenate(parts).select(np.argsort(order)) if parts else pack([])

    def token_parts(self) -> list[Ragged]:
        """The token ids of each segment's passages, as stored.

        Raises CollectionError when there are none.
        """
        if self.manifest.token_dtype is None:
            raise CollectionError(
                f"{self.path} has no token ids for a reranker; `tandem retokenize {self.path} --reranker FOLDER` makes "
                "them"
            )
        return [segment.tokens for segment in self.segments if segment.tokens is not None]

    @cached_property
    def lexicon(self) -> Lexicon:
        """How often the stored tokens occur here; deleted passages count until they are merged away.

        Raises CollectionError when there are none.
        """
        self.token_parts()
        counts = [segment.frequencies for segment in self.segments if segment.frequencies is not None]
        return Lexicon(np.sum(counts, axis=0, dtype=np.uint32) if counts else np.zeros(1, dtype=np.uint32), self.rows)

    def _owners(self, rows: Rows) -> Rows:
        """int64 [m]: the number of the segment that has each of `rows`."""
        return np.searchsorted(self._starts, rows, side="right") - 1

    def _each(self, rows: npt.ArrayLike, read: Callable[[Segment, Rows], Sequence[T]]) -> list[T]:
        """What `read` gives for `rows` (int [m]), each asked of its own segment."""
        rows = np.asarray(rows, dtype=np.int64)
        if len(self.segments) == 1:
            return list(read(self.segments[0], rows))
        owners, found = self._owners(rows), dict[int, T]()
        for number in np.unique(owners).tolist():
            places = np.flatnonzero(owners == number)
            own = read(self.segments[number], rows[places] - self._starts[number])
            found |= zip(places.tolist(), own, strict=True)
        return [found[place] for place in range(len(rows))]

    def texts(self, rows: npt.ArrayLike) -> list[str]:
        """The texts of the passages `rows` (int [m])."""
        return self._each(rows, lambda segment, own: segment.texts.strings(own))

    def titles(self, rows: npt.ArrayLike) -> list[str]:
        """The titles of the passages' documents, empty where there was none."""
        return self._each(rows, lambda segment, own: segment.titles.strings(own))

    def ids(self, rows: npt.ArrayLike) -> list[str]:
        """The passages' ids: the document's, or the document's with `#1`, `#2` … where it was split."""
        return self._each(rows, lambda segment, own: segment.ids.strings(own))

    def documents(self, rows: npt.ArrayLike) -> list[str]:
        """The ids of the passages' documents."""
        return [place.document for place in self.places(rows)]

    def places(self, rows: npt.ArrayLike) -> list[Place]:
        """Where the passages were in their documents."""
        rows = np.asarray(rows, dtype=np.int64)
        return self._placed(self.ids(rows), rows)

    def _placed(self, ids: list[str], rows: npt.NDArray[np.int64]) -> list[Place]:
        """`places` of rows whose ids are known."""
        places = self._each(rows, lambda segment, own: segment.places[own].tolist())
        return [
            Place(name.removesuffix(f"#{chunk}") if chunk else name, chunk, start, end)
            for name, (chunk, start, end) in zip(ids, places, strict=True)
        ]

    def metadata(self, rows: npt.ArrayLike) -> list[dict[str, Any]]:
        """What else the rows of the corpus held."""
        stored = self._each(rows, lambda segment, own: segment.metadata.strings(own))
        return [json.loads(text) if text else {} for text in stored]

    def passages(self, rows: npt.ArrayLike) -> list[StoredPassage]:
        """The passages `rows` (int [m]) with all that is told of them."""
        rows = np.asarray(rows, dtype=np.int64)
        ids = self.ids(rows)
        documents = [place.document for place in self._placed(ids, rows)]
        columns = (ids, documents, self.texts(rows), self.titles(rows), self.metadata(rows))
        return [StoredPassage(*fields) for fields in zip(*columns, strict=True)]

    def row_of(self, identity: str) -> int:
        """The row of a passage's id, by binary search; raises InputError when there is none."""
        wanted = identity.encode("utf-8", "surrogatepass")
        for segment, start in reversed(self.spans):
            if (row := segment.find(wanted)) is not None:
                return start + row
        raise InputError(f"no passage of {self.path} has the id {identity!r}")

    def document_rows(self, document: str) -> Rows:
        """int64, rising: the rows of a document's passages; empty where there is no such document."""
        for segment, start in self.spans:
            if len(rows := segment.document_rows(document)):
                return rows + start
        return np.empty(0, dtype=np.int64)

    def content(self, row: int) -> bytes | None:
        """The hash of the passage's document (see `document.content_hash`); None where it is older than they."""
        number = int(self._owners(np.array([row]))[0])
        contents = self.segments[number].contents
        return None if contents is None else contents[row - self.index.starts[number]].tobytes()

    def _all_live(self) -> RowMask | None:
        if all(segment.live is None for segment in self.segments):
            return None
        return RowMask(np.concatenate([segment.live_mask for segment in self.segments]))

    def _words(self) -> LexicalIndex | None:
        language = self.manifest.language
        folders = [segment.folder for segment in self.segments]
        return None if language is None else LexicalIndex.open(folders, language, self.live)

    def _check(self) -> None:
        if self.lexical is not None and len(self.lexical) != self.rows:
            said = f"the words of {len(self.lexical)} passages for {self.rows} passages"
            raise CollectionError(f"{self.folder} holds {said}; index again")
        if len(self) != self.manifest.counts.passages:
            said = f"{len(self)} passages, its manifest says {self.manifest.counts.passages}"
            raise CollectionError(f"{self.folder} holds {said}; index again")
        for segment in self.segments:
            if segment.index.dimension != self.manifest.dimension:
                found = f"{segment.index.dimension}, its manifest says {self.manifest.dimension}"
                raise CollectionError(f"{segment.folder} holds vectors of dimension {found}; index again")


def _batch(stored: Ragged, rows: Rows) -> TokenBatch:
    flat, lengths = stored.take(rows)
    return TokenBatch(flat.astype(np.int32), cumulative(lengths))


def open_version(
    folder: Path, manifest_sha256: str | None = None, *, threads: int | None = None, before: Collection | None = None,
    partial: bool = False,
) -> Collection:  # fmt: skip
    """One version's folder, with every check of `Collection.open`."""
    manifest = versions.read_manifest(folder, manifest_sha256)
    if partial:
        return _sound(folder, manifest, threads)
    if before is not None and before.manifest == manifest:
        return before
    dtype = manifest.token_dtype
    known = {segment.record.name: segment for segment in (() if before is None else before.segments)}
    same = {
        record.name for record in manifest.segments
        if (open_one := known.get(record.name)) is not None and open_one.is_same(record, dtype)
    }  # fmt: skip
    check_files(folder, manifest, same)
    segments = [
        known[record.name].marked(folder / record.name, record)
        if record.name in same
        else Segment(folder / record.name, record, dtype, threads)
        for record in manifest.segments
    ]
    return Collection(folder.parent.parent, folder, manifest, segments)


def _sound(folder: Path, manifest: CollectionManifest, threads: int | None) -> Collection:
    """What is sound of a version; raises CollectionError where nothing is."""
    records, problems = sound_segments(folder, manifest)
    if problems and not records:
        raise CollectionError(problems[0])
    segments = [Segment(folder / record.name, record, manifest.token_dtype, threads) for record in records]
    if problems:
        counts = manifest.counts.model_copy(update={
            "documents": sum(int(np.count_nonzero(segment.begins & segment.live_mask)) for segment in segments),
            "passages": sum(record.live for record in records),
        })  # fmt: skip
        manifest = manifest.model_copy(update={"segments": tuple(records), "counts": counts})
        for problem in problems:
            log.error("%s: a segment is left out: %s", folder.parent.parent, problem)
    return Collection(folder.parent.parent, folder, manifest, segments, problems)
