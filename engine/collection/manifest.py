"""What a collection says of itself: the settings it was indexed with, its models, its files."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import InputError
from ..models.artifact import FileRecord, Precision
from ..recall.lexical_index import PREFIX
from ..recall.planning import IndexPlan
from ..recall.words import Language
from .document import FieldType

MANIFEST = "manifest.json"
FORMAT = 2
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
    """Passages that are encoded and kept together: what an interruption can lose."""

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


class CollectionManifest(_Record):
    """A version of a collection; unknown keys are errors."""

    format: Literal[2] = 2
    version: str
    parent: str | None
    job: str
    """Hash of everything the vectors depend on: the same job is the same collection."""
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
    index: IndexPlan
    files: dict[str, FileRecord]

    @property
    def language(self) -> Language | None:
        """Of the words that are indexed; None: there are none, by wish or since the collection is older than they."""
        return self.settings.language if any(name.startswith(PREFIX) for name in self.files) else None

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


def digest(*parts: object) -> str:
    """Hex sha256 of JSON-able values, each kept apart from its neighbours."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
