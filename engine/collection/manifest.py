"""What a collection says of itself: the settings it was indexed with, its models, its files."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import InputError
from ..models.artifact import FileRecord, Precision
from ..recall.lexical_index import PREFIX
from ..recall.planning import IndexPlan, Similarity
from ..recall.words import Language
from .document import FieldType

MANIFEST = "manifest.json"
FORMAT = 3
FIRST = ""
"""Name of the segment of a version of format 2, whose files lie in the version's own folder."""
DELETED = "deleted.npy"
"""A bit for each passage of a segment: the only file of it that differs between versions."""
SHORTEST_CHUNK = 16
TokenDtype = Literal["uint16", "uint32"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IndexSettings(_Record):
    """How a corpus becomes passages; part of a collection's identity. Raises InputError on a wrong setting."""

    chunk_tokens: int | None = Field(default=None, ge=0)
    """Longest passage in tokens; None: what both models read, at most 512 (see `chunking`); 0: documents are never
    split."""
    overlap: int = Field(default=32, ge=0)
    """Tokens that neighbouring passages of one document may share, in whole sentences."""
    encode_title: bool = True
    """Put the title before the passage for the bi-encoder: a passage seldom names what its document is about."""
    rerank_title: bool = True
    """Put the title before the passage for the cross-encoder. Where it is as `encode_title`, and the models read alike,
    a passage is tokenised once."""
    language: Language | None = "english"
    """Of the passages, for their words; None: no words are indexed, and recall is by vectors alone. Not part of what
    vectors depend on: another language makes a new version, and nothing is encoded."""
    skip_bad: bool = False
    """Count unusable documents and go on, instead of ending with an error."""
    shard_size: int = Field(default=4096, ge=1)
    """Passages that are encoded and put down together; what is encoded is kept every few seconds besides."""

    def __init__(self, **values: object) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"])) or "settings"
            raise InputError(f"index setting {name}: {first['msg']}") from error

    @model_validator(mode="after")
    def _sensible(self) -> IndexSettings:
        if self.chunk_tokens and self.chunk_tokens < SHORTEST_CHUNK:
            raise ValueError(f"chunk_tokens must be 0 (never split) or at least {SHORTEST_CHUNK}")
        if self.chunk_tokens and self.overlap > self.chunk_tokens // 2:
            raise ValueError(f"overlap must not exceed half of chunk_tokens {self.chunk_tokens}")
        return self


class ModelRecord(_Record):
    """A model a collection was indexed with."""

    name: str
    fingerprint: str
    """sha256 of the artifact's manifest: `Artifact.fingerprint`."""
    path: str
    """Where the artifact is, relative to the collection's folder."""
    precision: Precision | None = None
    """Precision the passages were encoded in; None for a reranker, which only lends its tokenizer."""

    def seen_from(self, now: Path, before: Path) -> ModelRecord:
        """The record as the collection in the folder `now` keeps it, of that in the folder `before`."""
        artifact = (before / self.path).resolve()
        return self.model_copy(update={"path": os.path.relpath(artifact, now.resolve())})


class TokenSource(_Record):
    """What passages were tokenised with for the reranker (see `passage_text.PassageText`)."""

    tokenizer: str
    """`Tokenizer.fingerprint`: rules and vocabulary."""
    before: str = ""
    """Text that stood before each passage."""


class CollectionModels(_Record):
    """The two models: the vectors are the encoder's, the token ids the reranker's.

    The reranker is the one that is used where no other is asked for.
    """

    encoder: ModelRecord
    reranker: ModelRecord | None = None


class Counts(_Record):
    """What was indexed and what was not."""

    documents: int
    passages: int
    skipped: int
    """Unusable documents passed over because `skip_bad` was set."""


class SegmentRecord(_Record):
    """What one build added: passages whose files never change. What a later version marks as deleted stays in them
    until a merge writes them anew."""

    name: str
    """The segment's folder in the version's."""
    documents: int
    passages: int
    """Both as they were added, whatever is deleted since."""
    deleted: int = 0
    """Passages that are marked as deleted."""
    index: IndexPlan
    files: dict[str, FileRecord]

    @property
    def live(self) -> int:
        """Passages that are not deleted."""
        return self.passages - self.deleted


class CollectionManifest(_Record):
    """A version of a collection; unknown keys are errors."""

    format: Literal[3] = 3
    version: str
    parent: str | None
    job: str
    """Hash of the models and settings that passages and vectors depend on: segments of one job belong together."""
    corpus: str | None
    """Fingerprint of the corpus that was indexed last; None once documents were added or deleted by themselves."""
    source: str
    field_types: dict[str, FieldType] = {}
    """Of the metadata that the corpus wrote as text, as in CSV: inferred, or named."""
    counts: Counts
    dimension: int = Field(gt=0)
    token_dtype: TokenDtype | None
    """None: there are no token ids, since no reranker was given when it was indexed, and none since."""
    tokenized: TokenSource | None = None
    """What the token ids were made with. None: there are none, or they are older than this record; then they are those
    of `models.reranker`, with nothing before the passages."""
    models: CollectionModels
    settings: IndexSettings
    chunk_tokens: int
    """The passage limit in force after `settings.chunk_tokens` was resolved; 0: documents were not split."""
    similarity: Similarity = "cosine"
    segments: tuple[SegmentRecord, ...]
    """In the order in which they were added."""

    @model_validator(mode="before")
    @classmethod
    def _of_format_2(cls, fields: Any) -> Any:
        """A version of format 2 is one segment; its job also hashed the corpus, so that it is never taken for new."""
        if not isinstance(fields, dict) or fields.get("format") != 2 or "files" not in fields:
            return fields
        kept = {name: value for name, value in fields.items() if name not in ("index", "files")}
        own = {"index": fields.get("index"), "files": fields["files"], **_first(fields.get("counts"))}
        similar = {"similarity": own["index"]["similarity"]} if "similarity" in (own["index"] or {}) else {}
        return kept | similar | {"format": 3, "corpus": None, "segments": [own]}

    @property
    def files(self) -> dict[str, FileRecord]:
        """The version's files by their path in its folder."""
        return {
            f"{segment.name}/{name}".removeprefix("/"): record
            for segment in self.segments
            for name, record in segment.files.items()
        }

    @property
    def scale(self) -> float:
        """What a recall score is divided by to count as a cosine (see `IndexPlan.scale`): the segments' mean."""
        passages = sum(segment.passages for segment in self.segments)
        summed = sum(segment.index.scale * segment.passages for segment in self.segments)
        return summed / passages if passages else 1.0

    @property
    def largest(self) -> IndexPlan | None:
        """How the segment with most passages is searched; None where there is no segment."""
        largest = max(self.segments, key=lambda segment: segment.passages, default=None)
        return None if largest is None else largest.index

    @property
    def language(self) -> Language | None:
        """Of the words that are indexed; None: there are none, by wish or since the collection is older than they."""
        worded = all(any(name.startswith(PREFIX) for name in segment.files) for segment in self.segments)
        return self.settings.language if worded else None

    @property
    def kind(self) -> tuple[object, ...]:
        """What every segment has in common: what is added must be made so too."""
        return self.job, self.models.encoder.fingerprint, self.token_dtype, self.tokenized, self.language

    def has_ids_of(self, source: TokenSource, reranker: str) -> bool:
        """Whether the stored token ids are those of the artifact with the fingerprint `reranker`, which `source` makes.

        They are where the tokenizer and the text before passages are the same. The artifact that they were made with is
        known by its fingerprint too: a newer tokenizers library may write the same tokenizer down in another way.
        """
        if self.token_dtype is None:
            return False
        own, kept = self.models.reranker, self.tokenized or TokenSource(tokenizer="")
        same = kept.tokenizer == source.tokenizer or (own is not None and own.fingerprint == reranker)
        return same and kept.before == source.before

    def to_bytes(self) -> bytes:
        """The document that is written and whose sha256 the pointer holds."""
        return (self.model_dump_json(indent=2) + "\n").encode()


def numbered(version: str | None) -> str:
    """The number in a version's name, which is also the name of the segment that it added; None: that of none."""
    return "000000" if version is None else version.partition("-")[0]


def _first(counts: Any) -> dict[str, Any]:
    counts = counts if isinstance(counts, dict) else {}
    return {"name": FIRST, "documents": counts.get("documents"), "passages": counts.get("passages")}


def digest(*parts: object) -> str:
    """Hex sha256 of JSON-able values, each kept apart from its neighbours."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
