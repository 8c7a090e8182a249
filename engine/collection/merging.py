"""Segments are merged: what is deleted goes, and many small ones become one. Nothing is encoded.

The new segment is made while others search and write; only its publication holds the writer's lock. What was deleted
meanwhile is marked in it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..platform.durable_io import rename, storage, sync_tree
from ..platform.npy import Array, open_array
from ..recall.exact import Floats
from ..recall.neighbour_sample import QUERIES
from . import assemble, versions
from .changes import link_segment, mark
from .collection import Collection
from .document import HASH
from .lexical_files import write_words
from .manifest import CollectionManifest, SegmentRecord, digest, numbered
from .merge_policy import due
from .prepare import STORES
from .report import Progress, silent
from .segment import Segment
from .shards import BuildJob

MERGING = "merging"
"""The folder in which a merged segment is made."""
LOCK = "merge.lock"
ROWS = 16_384
"""Copied at a time: 25 MB of vectors at 384 dimensions."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What merging came to: `merges` of so many `passages`; segments before and after; `removed` deleted passages."""

    path: str
    version: str
    merges: int
    passages: int
    removed: int
    before: int
    after: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)

    def summary(self) -> str:
        """One line for a person."""
        if not self.merges:
            return f"nothing to merge: {self.after} segments"
        return (
            f"{self.before} segments became {self.after}: {self.passages:,} passages written anew, {self.removed:,} "
            f"deleted ones taken out, {self.seconds:.1f} s"
        )


def merge(root: Path, *, whole: bool = False, threads: int | None = None, progress: Progress = silent) -> Merged:
    """Merge the segments of the collection `root` that are due; with `whole` all of them into one.

    Raises CollectionError where there is no collection, StorageError (a second merge; the disk refused).
    """
    started, merges, passages = time.perf_counter(), 0, 0
    versions.current_pointer(root)  # before a lock makes the folder
    with versions.writer_lock(root, name=LOCK):
        _tidy(root)
        opened = Collection.open(root)
        first = opened.manifest
        while (span := _whole(opened.manifest) if whole else due(opened.manifest.segments)) is not None:
            passages += sum(segment.live for segment in opened.manifest.segments[span])
            merges += 1
            _merge(root, opened, span, threads, progress)
            opened = Collection.open(root, before=opened)
    last = opened.manifest
    removed = sum(segment.deleted for segment in first.segments) - sum(segment.deleted for segment in last.segments)
    return Merged(
        str(root), last.version, merges, passages, max(0, removed), len(first.segments), len(last.segments),
        round(time.perf_counter() - started, 3),
    )  # fmt: skip


def _tidy(root: Path) -> None:
    """Remove what a merge left that was interrupted."""
    with storage(root):
        shutil.rmtree(root / MERGING, ignore_errors=True)
    with versions.writer_lock(root, versions.WAIT):
        if (current := versions.read_current(root)) is not None:
            versions.tidy(root, current)


def _whole(manifest: CollectionManifest) -> slice | None:
    segments = manifest.segments
    return slice(0, len(segments)) if len(segments) > 1 or any(segment.deleted for segment in segments) else None


def _merge(root: Path, opened: Collection, span: slice, threads: int | None, progress: Progress) -> None:
    """One merge of the segments `span` of a version."""
    sources = opened.segments[span]
    folder = root / MERGING
    with storage(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    beside = len(opened) - sum(source.record.live for source in sources)
    record = _write(folder, sources, beside, opened.manifest, threads, progress)
    with versions.writer_lock(root, versions.WAIT):
        _publish(root, folder, record, sources)


def _write(
    folder: Path, sources: Sequence[Segment], beside: int, manifest: CollectionManifest, threads: int | None,
    progress: Progress,
) -> SegmentRecord | None:  # fmt: skip
    """The segment of what is live in `sources`; None where nothing is."""
    total = sum(source.record.live for source in sources)
    if not total:
        return None
    vocabulary = None if sources[0].frequencies is None else len(sources[0].frequencies)
    parts = (part for source in sources for part in _parts(source))
    assemble.arrays(folder, parts, vocabulary, total, progress)
    plan = assemble.index(folder, beside, partial(_sample, sources), manifest.similarity, threads, progress)
    if manifest.language is not None:
        write_words(folder, manifest.language, manifest.token_dtype, progress)
    sync_tree(folder)  # before the writer's lock is held: what publishing finds on the disk takes it no time
    documents = sum(int(np.count_nonzero(source.live_mask & source.begins)) for source in sources)
    files = assemble.file_records(sorted(folder.iterdir()), progress)
    return SegmentRecord(name=folder.name, documents=documents, passages=total, index=plan, files=files)


def _parts(source: Segment) -> Iterator[dict[str, Array]]:
    """What is live in a segment, as `assemble.arrays` takes it."""
    contents, live = source.contents, np.flatnonzero(source.live_mask)
    for start in range(0, len(live), ROWS):
        rows = live[start : start + ROWS]
        part: dict[str, Array] = {"places": source.places[rows], "vectors": source.index.vectors[rows]}
        # Zeros are the hash of no document: indexing again takes these for changed.
        part["contents"] = np.zeros((len(rows), HASH), np.uint8) if contents is None else contents[rows]
        for name, store in zip(STORES, (source.ids, source.titles, source.texts, source.metadata), strict=True):
            part[name], part[f"{name}.lengths"] = store.take(rows)
        if source.tokens is not None:
            part["tokens"], part["tokens.lengths"] = source.tokens.take(rows)
        yield part


def _sample(sources: Sequence[Segment]) -> Floats:
    """Queries to measure the index by: those that the sources were measured by, else some of their own vectors."""
    kept = [source.folder / QUERIES for source in sources if (source.folder / QUERIES).exists()]
    if kept:
        queries = np.concatenate([open_array(path, np.float32, 2) for path in kept])
        return queries[:: max(1, len(queries) // assemble.SAMPLE_QUERIES)][: assemble.SAMPLE_QUERIES]
    largest = max(sources, key=len)
    rows = np.flatnonzero(largest.live_mask)
    spread = rows[np.linspace(0, len(rows) - 1, min(assemble.SAMPLE_QUERIES, len(rows)), dtype=np.int64)]
    return np.array(largest.index.vectors[spread])


def _publish(root: Path, merged: Path, record: SegmentRecord | None, sources: Sequence[Segment]) -> None:
    """The current version with the merged segment in the place of its sources."""
    opened = Collection.open(root)
    names = [source.record.name for source in sources]
    now = {segment.record.name: segment for segment in opened.segments}
    manifest = opened.manifest
    if not all(
        source.record.name in now and source.is_same(now[source.record.name].record, manifest.token_dtype)
        for source in sources
    ):
        return  # indexed or tokenised anew meanwhile: what was merged is of no use
    kept = np.concatenate([now[source.record.name].live_mask[source.live_mask] for source in sources])
    name = assemble.next_version(manifest, digest("merge", manifest.version))
    folder = BuildJob(root / versions.STAGING, manifest.version, digest("merge", names)).assembly()
    segments: list[SegmentRecord] = []
    for segment in opened.segments:
        own = segment.record.name
        if own not in names:
            segments.append(link_segment(segment.folder, folder / (own or numbered(manifest.version)), segment.record))
        elif own == names[0] and record is not None and kept.any():
            rename(merged, folder / numbered(name))
            segments.append(mark(folder / numbered(name), record.model_copy(update={"name": numbered(name)}), kept))
    following = {"version": name, "parent": manifest.version, "segments": tuple(segments)}
    manifest = manifest.model_copy(update=following)
    versions.publish(root, folder, manifest, partial(assemble.check, before=opened))
    versions.tidy(root, manifest)
    shutil.rmtree(merged, ignore_errors=True)
