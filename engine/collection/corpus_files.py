"""Corpora in files: JSONL, CSV, Parquet, and folders of text files."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib
import io
import json
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import CorpusError
from ..platform.durable_io import sha256
from .document import ID_FIELDS, Document, Fields, Record, Source

TEXT_SUFFIXES = (".txt", ".md")
BEIR = ("corpus.jsonl", "corpus.jsonl.gz")
"""A folder with one of these is the corpus it holds."""
Row = dict[str, Any]
Reader = Callable[[Path], Iterator[tuple[str, Row | str]]]
"""A file's rows, each with where it is; text in the place of a row says what is wrong with it."""


def source(path: Path, fields: Fields) -> Source:
    """The file or folder `path` as a source of records; raises CorpusError when it is no known kind of corpus."""
    beir = next((path / name for name in BEIR if (path / name).is_file()), None)
    if beir is not None:
        return source(beir, fields)
    if path.is_dir():
        return _folder(path)
    readers: dict[str, Reader] = {
        ".jsonl": _jsonl_rows, ".jsonl.gz": _jsonl_rows, ".csv": _csv_rows, ".parquet": _parquet_rows
    }  # fmt: skip
    reader = next((reader for suffix, reader in readers.items() if path.name.lower().endswith(suffix)), None)
    if reader is None:
        kinds = ", ".join(readers)
        raise CorpusError(f"{path} is no corpus: give a file ({kinds}), a folder of .txt and .md files, or python:NAME")
    try:
        state = _state(path)
        digest = hashlib.sha256(f"{sha256(path)} {fields}".encode()).hexdigest()
        size = None if reader is _parquet_rows else _lines(path)
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror}") from error
    return Source(str(path), digest, size, partial(_records, reader, path, fields, state))


def open_binary(path: Path) -> BinaryIO:
    """The bytes of a file, decompressed where its name ends in .gz."""
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _records(reader: Reader, path: Path, fields: Fields, state: tuple[int, int]) -> Iterator[Record]:
    try:
        for where, row in reader(path):
            document = row if isinstance(row, str) else _document(row, fields)
            yield Record(where, wrong=document) if isinstance(document, str) else Record(where, document)
        if _state(path) != state:
            raise CorpusError(f"{path} changed while it was read; index it again")
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{path} cannot be read to its end: {error}; is it complete?") from error


def _state(path: Path) -> tuple[int, int]:
    """What changes when a file is written: the fingerprint was taken before the documents are read."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _document(row: Row, fields: Fields) -> Document | str:
    """The document in a row, or what is wrong with it. Fields that are not named are metadata."""
    names = ID_FIELDS if fields.id is None else (fields.id,)
    id_field = next((name for name in names if row.get(name) is not None), None)
    if id_field is None:
        return f"there is no field {' or '.join(map(repr, names))} for the id; name it with --id-field"
    if row.get(fields.text) is None:
        return f"there is no field {fields.text!r} for the text; name it with --text-field"
    identity, text, title = row[id_field], row[fields.text], row.get(fields.title)
    if not isinstance(identity, str | int) or isinstance(identity, bool):
        return f"the id in {id_field!r} is neither text nor a whole number"
    if not isinstance(text, str):
        return f"the field {fields.text!r} is not text"
    if title is not None and not isinstance(title, str):
        return f"the field {fields.title!r} is not text"
    rest = {key: value for key, value in row.items() if key not in (id_field, fields.text, fields.title)}
    return Document(str(identity), title or "", text, rest)


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Row | str]]:
    with open_binary(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f"{path}, line {number}", _json_row(line)


def _json_row(line: bytes) -> Row | str:
    try:
        row = json.loads(line.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        return f"byte {error.start + 1} of the line is not valid UTF-8; save the file as UTF-8"
    except (ValueError, RecursionError) as error:
        return f"the line is not JSON ({error})"
    return row if isinstance(row, dict) else "the line is JSON, but not an object with fields"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _csv_rows(path: Path) -> Iterator[tuple[str, Row | str]]:
    """Rows under a header line. A broken row spoils where the next one starts, so that ends the reading for good."""
    csv.field_size_limit(2**31 - 1)
    with path.open("rb") as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        try:
            for row in rows:
                where = f"{path}, line {rows.line_num}"
                surplus = row.pop(None, [])
                row.pop("", None)  # a column without a name, as pandas writes its index
                yield where, "the row has more values than the header has names" if any(surplus) else dict(row)
        except csv.Error as error:
            raise CorpusError(f"{path}, line {rows.line_num}: the row is not CSV ({error}); mend the file") from error
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"{path}, after line {rows.line_num}: not valid UTF-8 ({error.reason}); save the file as UTF-8"
            ) from error


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row | str]]:
    try:
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise CorpusError(f"{path}: reading Parquet needs pyarrow; run `pip install pyarrow`") from error
    try:
        number = 0
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", _plain(row)
    except arrow.ArrowException as error:
        raise CorpusError(f"{path} is not a readable Parquet file ({error})") from error


def _plain(row: Row) -> Row | str:
    """The row with JSON values only: Parquet also knows dates and bytes."""
    try:
        plain: Row = json.loads(json.dumps(row, default=str, allow_nan=False))
    except ValueError as error:
        return f"the row cannot be kept as JSON ({error})"
    return plain


def _lines(path: Path) -> int | None:
    """Lines of an uncompressed file: the documents to expect, for a progress bar."""
    if path.suffix == ".gz":
        return None
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b"")) or None


def _folder(path: Path) -> Source:
    found = sorted(
        file for file in path.rglob("*")
        if file.suffix.lower() in TEXT_SUFFIXES and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )  # fmt: skip
    if not found:
        raise CorpusError(f"{path} holds no .txt or .md file; give a folder with some, or a corpus file")
    try:
        hashes = {file: sha256(file) for file in found}
    except OSError as error:
        raise CorpusError(f"{error.filename} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256()
    for file, content in hashes.items():
        digest.update(f"{file.relative_to(path).as_posix()}\0{content}\n".encode("utf-8", "surrogateescape"))
    return Source(str(path), digest.hexdigest(), len(found), partial(_folder_records, path, hashes))


def _folder_records(root: Path, hashes: dict[Path, str]) -> Iterator[Record]:
    for file, content in hashes.items():
        try:
            data = file.read_bytes()
        except OSError as error:
            raise CorpusError(f"{file} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != content:
            raise CorpusError(f"{file} changed while the folder was read; index it again")
        yield _text_record(file, file.relative_to(root).as_posix(), data)


def _text_record(file: Path, name: str, data: bytes) -> Record:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Record(str(file), wrong=f"byte {error.start + 1} is not valid UTF-8; save the file as UTF-8")
    heading = next((line for line in text.splitlines() if line.startswith("#") and line.strip("# ")), None)
    title = heading.strip("# ") if heading is not None and file.suffix.lower() == ".md" else file.stem
    return Record(str(file), Document(name, title, text))
