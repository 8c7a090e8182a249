"""A corpus as documents, whatever it is kept in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import CorpusError, InputError
from . import python_corpus
from .document import Document, Fields, Record, Source, content_hash
from .sources import Files, open_files

HINT = "mend it, or pass over such documents with --skip-bad"


class Corpus:
    """Documents of a source, each id once. While it is read, it counts.

    skipped:  unusable documents that were passed over
    hashed:   documents whose id is the hash of their content, since they have none of their own
    repeated: rows without an id whose text and title an earlier one has; they are left out
    absent:   fields whose type is known, and which no document had so far
    """

    def __init__(self, source: Source, *, skip_bad: bool = False, hint: str = HINT) -> None:
        """hint: what to do about an unusable document"""
        self.source = source
        self._hint = hint
        self.skip_bad = skip_bad
        self.skipped = self.hashed = self.repeated = 0
        self.absent: set[str] = set()

    def __iter__(self) -> Iterator[Document]:
        """Raises CorpusError at the first unusable document (unless `skip_bad`), and when there is none at all."""
        self.skipped = self.hashed = self.repeated = 0
        self.absent = set(self.source.field_types)
        seen: set[str] = set()
        for record in self.source.records():
            document = record.document
            if record.by_content and document is not None and document.id in seen:
                self.repeated += 1
                continue
            wrong = record.wrong if document is None else _fault(document, seen)
            if document is not None and not wrong:
                seen.add(document.id)
                self.hashed += record.by_content
                self.absent -= document.metadata.keys()
                yield document
            elif self.skip_bad:
                self.skipped += 1
            else:
                raise CorpusError(f"{record.where}: {wrong}; {self._hint}")
        if not seen:
            skipped = f" ({self.skipped} unusable ones were passed over)" if self.skipped else ""
            raise CorpusError(f"{self.source.name} holds no document{skipped}; give a corpus with at least one")

    @property
    def notes(self) -> list[str]:
        """Sentences for whoever indexes it: what was not read and what was guessed, and what reading it showed."""
        said = list(self.source.notes)
        if self.hashed:
            said.append(f"rows without an id: {self.hashed:,}; the id of each is the hash of its text and title")
        if self.repeated:
            said.append(
                f"rows without an id that repeat the text and title of an earlier one: {self.repeated:,}; they were "
                "left out, and are kept where each has an id (--id-field)"
            )
        if self.absent:
            said.append(
                f"no document has the field {', '.join(map(repr, sorted(self.absent)))}, which has a type named"
            )
        return said


def open_corpus(source: str | Path | Files, *, fields: Fields | None = None, skip_bad: bool = False) -> Corpus:
    """The corpus `source`: a file of a known kind (see `sources.kinds`), a BEIR folder, a folder of such files, which
    `Files` may choose among, or `python:NAME,…` for the documentation strings of Python packages (`python:stdlib`: the
    standard library).

    Raises CorpusError when it is none of these, InputError when an option does not fit it; reading it may raise more
    (see Corpus).
    """
    files = source if isinstance(source, Files) else Files(source)
    fields = fields or Fields()
    name = str(files.path)
    if not is_python(files):
        return Corpus(open_files(files, fields), skip_bad=skip_bad)
    if files != Files(files.path) or fields != Fields():
        raise InputError(f"{name} holds no files and no fields: leave out the options that choose or name them")
    return Corpus(python_corpus.source(name), skip_bad=skip_bad)


def is_python(source: str | Path | Files) -> bool:
    """Whether a source is the documentation strings of packages."""
    return str(source.path if isinstance(source, Files) else source).startswith(python_corpus.PREFIX)


def of_documents(documents: Sequence[Document]) -> Corpus:
    """A corpus of these `documents`."""
    digest = hashlib.sha256(b"".join(content_hash(document) for document in documents)).hexdigest()

    def records() -> Iterator[Record]:
        for place, document in enumerate(documents):
            yield Record(f"document {place}", document)

    return Corpus(Source("documents", digest, len(documents), records), hint="nothing was added")


def read_corpus(
    source: str | Path | Files, *, fields: Fields | None = None, skip_bad: bool = False
) -> Iterator[Document]:
    """The documents of `source` (see `open_corpus`), in its order."""
    yield from open_corpus(source, fields=fields, skip_bad=skip_bad)


def _fault(document: Document, seen: set[str]) -> str:
    """What makes a document unusable, or nothing."""
    if not document.id:
        return "the document's id is empty"
    if document.id in seen:
        return f"the id {document.id!r} occurs a second time; ids must be unique"
    if not document.text.strip():
        return f"document {document.id!r} has no text"
    metadata = json.dumps(document.metadata, ensure_ascii=False)
    for text in (document.id, document.title, document.text, metadata):
        try:
            text.encode()
        except UnicodeEncodeError as error:  # JSON may hold half of a surrogate pair
            return f"document {document.id!r} is not valid Unicode at character {error.start} ({error.reason})"
    return ""
