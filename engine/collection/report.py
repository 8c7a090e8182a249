"""What a build tells: how far it is, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .corpus import Corpus
from .manifest import CollectionManifest, SegmentRecord


class Progress(Protocol):
    """Told how far a step has come: `done` of `total` (None: unknown) of what `what` names."""

    def __call__(self, done: int, total: int | None, what: str) -> None: ...


def silent(done: int, total: int | None, what: str) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class Made:
    """A segment that was made. resumed: passages that were encoded before; seconds: what the encoder took."""

    record: SegmentRecord
    dimension: int
    resumed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What indexing came to. Of `seconds` the encoder took `encode_seconds`.

    documents, passages: what the collection holds now
    encoded: passages of new and changed documents, of which `resumed` were encoded by an interrupted call before
    kept, removed: documents that the version before had and that are as they were, or that the corpus no longer has so
    """

    path: str
    version: str
    documents: int
    passages: int
    skipped: int
    encoded: int
    kept: int
    removed: int
    resumed: int
    unchanged: bool
    chunk_tokens: int
    segments: int
    index: str
    index_reason: str
    recall_at_100: float
    bytes: int
    encode_seconds: float
    seconds: float
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """Files of a folder that were not read, by kind."""
    notes: tuple[str, ...] = ()
    """What was passed over and what was guessed, a sentence each."""

    @classmethod
    def of(
        cls, path: Path, manifest: CollectionManifest, *, seconds: float, unchanged: bool = False,
        made: Made | None = None, kept: int | None = None, removed: int = 0, corpus: Corpus | None = None,
    ) -> BuildReport:  # fmt: skip
        """The report on the collection `path`, whose current version `manifest` describes, made of `corpus`.

        made: what was added; kept: None for all documents
        """
        counts, index = manifest.counts, manifest.largest
        return cls(
            path=str(path),
            version=manifest.version,
            documents=counts.documents,
            passages=counts.passages,
            skipped=counts.skipped,
            encoded=0 if made is None else made.record.passages,
            kept=counts.documents if kept is None else kept,
            removed=removed,
            resumed=0 if made is None else made.resumed,
            unchanged=unchanged,
            chunk_tokens=manifest.chunk_tokens,
            segments=len(manifest.segments),
            index="none" if index is None else index.kind,
            index_reason="there is no passage" if index is None else index.reason,
            recall_at_100=1.0 if index is None else index.recall_at_100,
            bytes=sum(record.size for record in manifest.files.values()),
            encode_seconds=0.0 if made is None else round(made.seconds, 3),
            seconds=round(seconds, 3),
            passed_over={} if corpus is None else dict(corpus.source.passed_over),
            notes=() if corpus is None else tuple(corpus.notes),
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)

    def summary(self) -> str:
        """One line for a person."""
        parts = [f"{self.passages:,} passages of {self.documents:,} documents", f"{self.bytes / 1e6:,.0f} MB"]
        parts.append(f"{self.index} index, recall@100 {self.recall_at_100:.3f}")
        if self.skipped:
            parts.append(f"{self.skipped:,} unusable documents passed over")
        if self.kept and not self.unchanged:
            parts.append(
                f"{self.kept:,} documents kept, {self.encoded:,} passages new, {self.removed:,} documents gone"
            )
        if self.resumed:
            parts.append(f"{self.resumed:,} passages were already encoded")
        if not self.unchanged:
            parts.append(f"{self.seconds:.1f} s, of which the encoder {self.encode_seconds:.1f} s")
        return ", ".join(parts)
