"""Documents are added to a collection, replaced and deleted, each time as one new version.

What was acknowledged is on the disk. A reader sees the version before or the one after, and in it a document's old
state or its new one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import CollectionError
from ..recall.exact import Rows
from . import assemble, versions
from .changes import Change
from .collection import Collection
from .corpus import Corpus
from .document import Document, content_hash
from .filters import Filter
from .making import SegmentMaker
from .manifest import digest, numbered
from .merge_policy import due
from .report import Made
from .shards import BuildJob


@dataclass(slots=True)
class Updated:
    """What a change came to, counted in documents; `passages` and `documents` are what the collection holds now.

    unchanged: they were there as they are; missing: they were to be deleted and are not there
    merge_due: segments should be merged (see `merging.due`)
    """

    path: str
    version: str
    documents: int
    passages: int
    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    deleted: int = 0
    missing: int = 0
    merge_due: bool = False
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)

    def summary(self) -> str:
        """One line for a person."""
        counted = [
            f"{count:,} {what}"
            for what in ("added", "replaced", "unchanged", "deleted", "missing")
            if (count := getattr(self, what))
        ]
        return (
            f"{', '.join(counted) or 'nothing to do'}; {self.passages:,} passages of {self.documents:,} documents, "
            f"{self.seconds:.1f} s"
        )


@dataclass(slots=True)
class _Adding:
    """Documents that are to be added, told apart by what the collection has of them."""

    change: Change
    counts: dict[str, int] = field(default_factory=lambda: {"added": 0, "replaced": 0, "unchanged": 0})

    def fresh(self, before: Collection, documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            rows = before.document_rows(document.id)
            if len(rows) and before.content(int(rows[0])) == content_hash(document):
                self.counts["unchanged"] += 1
                continue
            self.counts["replaced" if len(rows) else "added"] += 1
            self.change.drop(rows)
            yield document


def add(before: Collection, corpus: Corpus, maker: SegmentMaker) -> tuple[Updated, Collection]:
    """Add the documents of `corpus` to a collection; one whose id is there replaces what is there.

    Also gives the version that has them, open.

    before: the collection, open, that `maker` was made for; it may have newer versions, and what they share with it is
            not read again
    Raises what `SegmentMaker.make` raises; then nothing was added. CollectionError where it was indexed anew with other
    models or settings.
    """
    root, started = before.path, time.perf_counter()
    versions.current_pointer(root)  # before a lock makes the folder
    with versions.writer_lock(root, versions.WAIT):
        opened = Collection.open(root, before=before)
        if opened.manifest.kind != before.manifest.kind:
            raise CollectionError(f"{root} has other models or settings now than when it was opened: open it anew")
        adding = _Adding(Change(opened))
        key = digest("add", corpus.source.fingerprint)
        job = BuildJob(root / versions.STAGING, opened.version, key)
        folder = job.assembly()
        name = assemble.next_version(opened.manifest, key)
        fresh = adding.fresh(opened, corpus)
        made = maker.make(job, fresh, folder / numbered(name), lambda: adding.change, corpus.source.size)
        opened = _publish(root, job, folder, name, adding.change, made)
    return _told(opened, started, **adding.counts), opened


def delete(
    root: Path, ids: Iterable[str] = (), filters: Filter | None = None, *, before: Collection | None = None
) -> tuple[Updated, Collection]:
    """Delete documents of the collection `root`: those with these ids, and those whose metadata `filters` finds. Also
    gives the version that has them no more, open.

    before: a version that is open: what it shares with the current one is not read again
    Raises CollectionError or StorageError; then nothing was deleted.
    """
    started = time.perf_counter()
    versions.current_pointer(root)  # before a lock makes the folder
    with versions.writer_lock(root, versions.WAIT):
        opened = Collection.open(root, before=before)
        change, missing = Change(opened), 0
        for identity in dict.fromkeys(ids):
            rows = opened.document_rows(identity)
            missing += not len(rows)
            change.drop(rows)
        if filters is not None:
            change.drop(_found(opened, filters))
        deleted = opened.manifest.counts.documents - change.documents
        key = digest("delete", opened.version)
        job = BuildJob(root / versions.STAGING, opened.version, key)
        name = assemble.next_version(opened.manifest, key)
        opened = _publish(root, job, job.assembly(), name, change, None)
    return _told(opened, started, deleted=deleted, missing=missing), opened


def _found(collection: Collection, filters: Filter) -> Rows:
    """The passages that a filter leaves; all passages of a document have its metadata."""
    steps = collection.filtered.steps(filters)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            rows: Rows = end.value.rows
            return rows


def _publish(root: Path, job: BuildJob, folder: Path, name: str, change: Change, made: Made | None) -> Collection:
    """The new version, or the one before where nothing changes."""
    opened = change.before
    if opened is None:
        raise RuntimeError("a change without a version before it is a build")
    manifest = opened.manifest
    if made is not None or change.dropped:
        segments = change.link(folder) + (() if made is None else (made.record,))
        counts = manifest.counts.model_copy(
            update={
                "documents": change.documents + (0 if made is None else made.record.documents),
                "passages": sum(segment.live for segment in segments),
            }
        )
        following = {"version": name, "parent": manifest.version, "corpus": None, "counts": counts}
        manifest = manifest.model_copy(update=following | {"segments": segments})
        opened = versions.publish(root, folder, manifest, partial(assemble.check, before=opened))
    job.discard()
    versions.tidy(root, manifest)
    return opened


def _told(opened: Collection, started: float, **counted: int) -> Updated:
    manifest, seconds = opened.manifest, round(time.perf_counter() - started, 3)
    return Updated(
        str(opened.path), manifest.version, manifest.counts.documents, manifest.counts.passages,
        merge_due=due(manifest.segments) is not None, seconds=seconds, **counted,
    )  # fmt: skip
