"""A file or a folder as a source of documents."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...errors import CorpusError, InputError
from ..document import ID_FIELDS, Document, Fields, FieldType, Record, Source
from .corpus_file import CorpusFile, Unusable, scan
from .encodings import is_codec
from .field_types import Columns
from .folder import EMPTY, Found, find, is_tandems, told
from .kinds import ENDINGS, Kind, ending_of, kind_of_file
from .prose import Titled
from .rows import RowFile, document_in

BEIR = ("corpus.jsonl", "corpus.jsonl.gz")
"""A folder with one of these is the corpus it holds."""
_NAMED = 5
"""Files that a note names at most."""


@dataclass(frozen=True, slots=True)
class Files:
    """A file or a folder, which of its files are read (see `folder.find`), and their encoding where it is known."""

    path: str | Path
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    encoding: str | None = None


@dataclass(frozen=True, slots=True)
class _Opened:
    """A scanned file with what reads it."""

    file: CorpusFile
    kind: Kind
    rows: RowFile | None


def open_files(files: Files, fields: Fields) -> Source:
    """`files` as a source of records, each file scanned once: its hash, its encoding, the types of its columns.

    Raises CorpusError when there is nothing that can be read, InputError when an option does not fit.
    """
    path = Path(files.path)
    if files.encoding is not None and not is_codec(files.encoding):
        raise InputError(
            f"there is no encoding {files.encoding!r}; it is called for instance cp1252, shift_jis or koi8-r"
        )
    beir = next((path / name for name in BEIR if (path / name).is_file()), None)
    if path.is_dir() and beir is None:
        return _folder(path, files, fields)
    if files.include or files.exclude:
        what = f"{path} is one file" if beir is None else f"of a BEIR folder only {beir.name} is read"
        raise InputError(f"{what}: leave out --include and --exclude, which choose among the files of a folder")
    return _single(beir or path, files.encoding, fields)


def _single(path: Path, encoding: str | None, fields: Fields) -> Source:
    kind = kind_of_file(path.name)
    if kind is None:
        known = " ".join(ENDINGS)
        raise CorpusError(f"{path} is no corpus: give a file of a known kind ({known}), a folder, or python:NAME")
    if kind.missing:
        raise CorpusError(f"{path}: such files need another library; run `{kind.missing}`")
    opened = _open(_scan(path, path.name, kind, encoding), kind)
    name = "" if kind.rows else path.name  # of rows the ids are their own
    return _source(path, [opened], fields, encoding, f"{name}{opened.file.sha256}".encode())


def _folder(path: Path, files: Files, fields: Fields) -> Source:
    if is_tandems(path):
        raise CorpusError(
            f"{path} is a collection or a model of Tandem's, and no corpus; give the folder of your texts"
        )
    found = find(path, files.include, files.exclude)
    opened: list[_Opened] = []
    for file, name, kind in found.files:
        scanned = _scan(file, name, kind, files.encoding)
        if scanned.blank:
            found.passed_over[EMPTY] += 1
        else:
            opened.append(_open(scanned, kind))
    if not opened:
        others = told("passed over", found.passed_over)
        raise CorpusError(
            f"{path} holds no file that is read ({' '.join(ENDINGS)})"
            + (f"; {'; '.join([others, *_needed(found)])}" if others else "")
        )
    named = "".join(f"{each.file.name}\0{each.file.sha256}\n" for each in opened)
    kinds = Counter(ending_of(each.file.name) for each in opened)
    found.notes = [told("read", kinds), told("passed over", found.passed_over), *_needed(found)]
    content = named.encode("utf-8", "surrogateescape")
    return _source(path, opened, fields, files.encoding, content, found)


def _needed(found: Found) -> list[str]:
    return [f"{found.passed_over[ending]:,} {ending} need a library: {how}" for ending, how in found.needed.items()]


def _scan(path: Path, name: str, kind: Kind, encoding: str | None) -> CorpusFile:
    return scan(path, name, text=kind.is_text, html=".html" in kind.endings, encoding=encoding)


def _open(file: CorpusFile, kind: Kind) -> _Opened:
    return _Opened(file, kind, None if kind.rows is None else kind.rows(file))


def _source(
    path: Path,
    opened: list[_Opened],
    fields: Fields,
    encoding: str | None,
    content: bytes,
    found: Found | None = None,
) -> Source:
    """`content`: what the fingerprint is made of beside the options; `found`: of a folder."""
    if fields != Fields() and not any(each.kind.rows for each in opened):
        raise InputError(
            f"{path} holds no rows, so that there are no fields: leave out --id-field, --text-field, --title-field and "
            "--field"
        )
    if encoding is not None and not any(each.kind.is_text for each in opened):
        raise InputError(f"{path} is no text that has an encoding: leave out --encoding")
    types = _types(opened, fields)
    digest = hashlib.sha256(content + f"\n{fields} {encoding}".encode("utf-8", "surrogateescape"))
    counts = [1 if each.rows is None else each.rows.count for each in opened]
    # With --id-field ids are the rows' own, wherever they are kept; else those of a file are its own.
    prefixed = found is not None and fields.id is None
    return Source(
        name=str(path),
        fingerprint=digest.hexdigest(),
        size=None if None in counts else sum(filter(None, counts)),
        records=partial(_records, opened, fields, types, prefixed),
        field_types=types,
        passed_over={} if found is None else dict(found.passed_over),
        notes=tuple(filter(None, [*([] if found is None else found.notes), *_guessed(opened)])),
    )


def _types(opened: list[_Opened], fields: Fields) -> dict[str, FieldType]:
    """The types of all columns together, and those that were named. Fields with another part are no metadata."""
    columns = [each.rows.columns for each in opened if each.rows is not None and each.rows.columns is not None]
    ids = ID_FIELDS if fields.id is None else (fields.id,)
    return Columns.of_all(columns).types(without=(*ids, fields.text, fields.title)) | dict(fields.types)


def _guessed(opened: list[_Opened]) -> Iterator[str]:
    """A sentence on the files whose encoding only their bytes told."""
    names: dict[str, list[str]] = {}
    for each in opened:
        if each.kind.is_text and (guessed := each.file.codec.guessed):
            names.setdefault(guessed, []).append(each.file.name)
    for guessed, files in names.items():
        more = f" and {len(files) - _NAMED:,} more" if len(files) > _NAMED else ""
        shown = ", ".join(files[:_NAMED])
        yield f"read as {guessed}, by their bytes: {shown}{more}; if that is wrong, name the encoding with --encoding"


def _records(opened: list[_Opened], fields: Fields, types: Mapping[str, FieldType], prefixed: bool) -> Iterator[Record]:
    for each in opened:
        if each.kind.document is not None:
            yield _document(each.file, each.kind.document)
        elif each.rows is not None:
            yield from _rows(each.rows, fields, types, f"{each.file.name}/" if prefixed else "")


def _rows(rows: RowFile, fields: Fields, types: Mapping[str, FieldType], prefix: str) -> Iterator[Record]:
    header: tuple[str, ...] = ()
    if rows.columns is None:
        types = fields.types  # its values have types of their own
    else:
        header = rows.columns.names
    for where, row in rows.read():
        try:
            if isinstance(row, Unusable):
                raise row
            document, by_content = document_in(row, fields, types, prefix, header)
            yield Record(where, document, by_content=by_content)
        except Unusable as wrong:
            yield Record(where, wrong=str(wrong))
    rows.file.check_unchanged()


def _document(file: CorpusFile, read: Callable[[CorpusFile], Titled]) -> Record:
    try:
        title, text = read(file)
    except Unusable as wrong:
        return Record(str(file.path), wrong=str(wrong))
    return Record(str(file.path), Document(file.name, title, text))
