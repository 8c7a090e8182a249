"""What a build tells: how far it is, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .corpus import Corpus
from .manifest import CollectionManifest


class Progress(Protocol):
    """Told how far a step has come: `done` of `total` (None: unknown) of what `what` names."""

    def __call__(self, done: int, total: int | None, what: str) -> None: ...


def silent(done: int, total: int | None, what: str) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What indexing came to. Of `seconds` the encoder took `encode_seconds`; `resumed` passages were done before."""

    path: str
    version: str
    documents: int
    passages: int
    skipped: int
    resumed: int
    unchanged: bool
    chunk_tokens: int
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
        cls, path: Path, manifest: CollectionManifest, *, seconds: float, unchanged: bool = False, resumed: int = 0,
        encode_seconds: float = 0.0, corpus: Corpus | None = None,
    ) -> BuildReport:  # fmt: skip
        """The report on the collection `path`, whose current version `manifest` describes, made of `corpus`."""
        counts, index = manifest.counts, manifest.index
        return cls(
            str(path), manifest.version, counts.documents, counts.passages, counts.skipped, resumed, unchanged,
            manifest.chunk_tokens, index.kind, index.reason, index.recall_at_100,
            sum(record.size for record in manifest.files.values()), round(encode_seconds, 3), round(seconds, 3),
            passed_over={} if corpus is None else dict(corpus.source.passed_over),
            notes=() if corpus is None else tuple(corpus.notes),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)

    def summary(self) -> str:
        """One line for a person."""
        parts = [f"{self.passages:,} passages of {self.documents:,} documents", f"{self.bytes / 1e6:,.0f} MB"]
        parts.append(f"{self.index} index, recall@100 {self.recall_at_100:.3f}")
        if self.skipped:
            parts.append(f"{self.skipped:,} unusable documents passed over")
        if self.resumed:
            parts.append(f"{self.resumed:,} passages were already encoded")
        if not self.unchanged:
            parts.append(f"{self.seconds:.1f} s, of which the encoder {self.encode_seconds:.1f} s")
        return ", ".join(parts)
