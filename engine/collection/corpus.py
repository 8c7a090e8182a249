"""A corpus as documents, whatever it is kept in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import CorpusError
from . import corpus_files, python_corpus
from .document import Document, Fields, Record, Source, content_hash

HINT = "mend it, or pass over such documents with --skip-bad"


class Corpus:
    """Documents of a source, each id once. `skipped` counts, while it is read, what was passed over."""

    def __init__(self, source: Source, *, skip_bad: bool = False, hint: str = HINT) -> None:
        """hint: what to do about an unusable document"""
        self.source = source
        self._hint = hint
        self.skip_bad = skip_bad
        self.skipped = 0

    def __iter__(self) -> Iterator[Document]:
        """Raises CorpusError at the first unusable document (unless `skip_bad`), and when there is none at all."""
        self.skipped = 0
        seen: set[str] = set()
        for record in self.source.records():
            document = record.document
            wrong = record.wrong if document is None else _fault(document, seen)
            if document is not None and not wrong:
                seen.add(document.id)
                yield document
            elif self.skip_bad:
                self.skipped += 1
            else:
                raise CorpusError(f"{record.where}: {wrong}; {self._hint}")
        if not seen:
            skipped = f" ({self.skipped} unusable ones were passed over)" if self.skipped else ""
            raise CorpusError(f"{self.source.name} holds no document{skipped}; give a corpus with at least one")


def open_corpus(source: str | Path, *, fields: Fields | None = None, skip_bad: bool = False) -> Corpus:
    """The corpus `source`: a .jsonl, .jsonl.gz, .csv or .parquet file, a BEIR folder, a folder of .txt and .md files,
    or `python:NAME,…` for the documentation strings of Python packages (`python:stdlib`: the standard library).

    Raises CorpusError when it is none of these; reading it may raise more (see Corpus).
    """
    name = str(source)
    if name.startswith(python_corpus.PREFIX):
        return Corpus(python_corpus.source(name), skip_bad=skip_bad)
    return Corpus(corpus_files.source(Path(source), fields or Fields()), skip_bad=skip_bad)


def of_documents(documents: Sequence[Document]) -> Corpus:
    """A corpus of these `documents`."""
    digest = hashlib.sha256(b"".join(content_hash(document) for document in documents)).hexdigest()

    def records() -> Iterator[Record]:
        for place, document in enumerate(documents):
            yield Record(f"document {place}", document)

    return Corpus(Source("documents", digest, len(documents), records), hint="nothing was added")


def read_corpus(source: str | Path, *, fields: Fields | None = None, skip_bad: bool = False) -> Iterator[Document]:
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
