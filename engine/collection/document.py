"""What passes from a source of documents to a collection."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

ID_FIELDS = ("_id", "id")
"""Names an id may have where none was given: BEIR's, then everybody's."""

HASH = 16
"""Bytes of a document's hash: two among a billion documents are equal with a probability of 1e-21."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document; `metadata` is whatever else its row held, as JSON values."""

    id: str
    title: str
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)


def content_hash(document: Document) -> bytes:
    """What tells a document from every other, and from another state of itself: HASH bytes."""
    parts = json.dumps([document.id, document.title, document.text, document.metadata], sort_keys=True)
    return hashlib.blake2b(parts.encode("utf-8", "surrogatepass"), digest_size=HASH).digest()


def with_title(title: str, text: str) -> str:
    """A passage as a model reads it that is given titles: the title, where there is one, before the text."""
    return f"{title} {text}" if title else text


@dataclass(frozen=True, slots=True)
class Fields:
    """Names of the fields of a JSONL, CSV or Parquet corpus; `id` None: `_id`, or else `id`."""

    id: str | None = None
    text: str = "text"
    title: str = "title"


@dataclass(frozen=True, slots=True)
class Record:
    """What a source yields: a document, or what is wrong and where. `where` is a file with a line, or a name."""

    where: str
    document: Document | None = None
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Where documents come from. `fingerprint` is sha256 of the content; `size` documents, where it is known."""

    name: str
    fingerprint: str
    size: int | None
    records: Callable[[], Iterator[Record]]
