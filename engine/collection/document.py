"""What passes from a source of documents to a collection."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import InputError

FieldType = Literal["text", "number", "boolean", "date"]
"""What the values of a metadata field are; a date is kept as the text that it is written as, in ISO form."""
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
    """Names of the fields of a corpus of rows; `id` None: `_id`, or else `id`, or else the hash of text and title.

    types: of metadata fields that are to have another type than they have, or than is inferred (see `field_types`).
    Raises InputError where they name a field that is no metadata.
    """

    id: str | None = None
    text: str = "text"
    title: str = "title"
    types: Mapping[str, FieldType] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if part := next((name for name in (self.id, self.text, self.title) if name in self.types), None):
            raise InputError(f"the field {part!r} is the id, the text or the title, and has no other type; name others")


@dataclass(frozen=True, slots=True)
class Record:
    """What a source yields: a document, or what is wrong and where. `where` is a file with a line, or a name.

    by_content: the document's id is the hash of its text and title, since it has none of its own
    """

    where: str
    document: Document | None = None
    wrong: str = ""
    by_content: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Where documents come from. `fingerprint` is sha256 of the content; `size` documents, where it is known.

    field_types: of the metadata that was written as text, inferred or named
    passed_over: how many files of a folder were not read, by kind
    notes:       sentences for whoever indexes it: what was passed over, what was guessed
    """

    name: str
    fingerprint: str
    size: int | None
    records: Callable[[], Iterator[Record]]
    field_types: Mapping[str, FieldType] = field(default_factory=dict)
    passed_over: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
