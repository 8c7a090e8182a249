"""What a collection says of itself: the settings it was indexed with, its models, its files."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import InputError
from ..models.artifact import FileRecord, Precision
from ..recall.planning import IndexPlan

MANIFEST = "manifest.json"
FORMAT = 2
SHORTEST_CHUNK = 16
TokenDtype = Literal["uint16", "uint32"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IndexSettings(_Record):
    """How a corpus becomes passages; part of a collection's identity. Raises InputError on a wrong setting."""

    chunk_tokens: int | None = Field(default=None, ge=0)
    """Longest passage in tokens; None: as much as both models read (see `chunking`); 0: documents are never split."""
    overlap: int = Field(default=32, ge=0)
    """Tokens that neighbouring passages of one document may share, in whole sentences."""
    encode_title: bool = True
    """Put the title before the passage for the bi-encoder: a passage seldom names what its document is about."""
    rerank_title: bool = True
    """Put the title before the passage for the cross-encoder. Where it is as `encode_title`, and the models read alike,
    a passage is tokenised once."""
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


class CollectionModels(_Record):
    """The two models: the vectors are the encoder's, the token ids the reranker's."""

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
    counts: Counts
    dimension: int = Field(gt=0)
    token_dtype: TokenDtype | None
    """None: indexed without a reranker, so there are no token ids."""
    models: CollectionModels
    settings: IndexSettings
    chunk_tokens: int
    """The passage limit in force after `settings.chunk_tokens` was resolved; 0: documents were not split."""
    index: IndexPlan
    files: dict[str, FileRecord]

    def to_bytes(self) -> bytes:
        """The document that is written and whose sha256 the pointer holds."""
        return (self.model_dump_json(indent=2) + "\n").encode()


def digest(*parts: object) -> str:
    """Hex sha256 of JSON-able values, each kept apart from its neighbours."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
