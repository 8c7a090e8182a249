"""Parquet, through pyarrow: a row is a document, its values as JSON has them."""

from __future__ import annotations

import importlib
import math
import shutil
import tempfile
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from typing import Any, BinaryIO

from ...errors import CorpusError
from .corpus_file import CorpusFile, Unusable, reading
from .rows import Located, Row, RowFile

BATCH = 1024
"""Rows that are held at a time."""
_INDEX = "__index_level_"
"""How pandas calls a column of row numbers."""


def open_rows(file: CorpusFile) -> RowFile:
    """The rows of a Parquet file; one that is compressed besides is unpacked into a temporary file while it is read."""
    return RowFile(file, partial(_rows, file))


def _rows(file: CorpusFile) -> Iterator[Located]:
    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    number = 0
    with reading(file.path), _seekable(file) as opened:
        try:
            for batch in parquet.ParquetFile(opened).iter_batches(batch_size=BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{file.path}, row {number}", _row(row)
        except arrow.ArrowException as error:
            raise CorpusError(f"{file.path} is not a readable Parquet file ({error})") from error


def _seekable(file: CorpusFile) -> BinaryIO:
    """The file, where one can go to its end, at which Parquet begins to be read, and back."""
    if file.path.suffix.lower() != ".gz":
        return file.binary()
    unpacked = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    with file.binary() as packed:
        shutil.copyfileobj(packed, unpacked)
    unpacked.seek(0)
    return unpacked


def _row(row: Row) -> Row | Unusable:
    try:
        return {name: _plain(value) for name, value in row.items() if not name.startswith(_INDEX)}
    except (ValueError, OverflowError) as error:
        return Unusable(f"the row cannot be kept as JSON ({error})")


def _plain(value: Any) -> Any:
    """A value as JSON has it: times in ISO form, no number where it is none (pandas writes missing numbers so)."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | Decimal):
        number = float(value)
        if math.isinf(number):
            raise ValueError(f"{number} is not a JSON number")
        return None if math.isnan(number) else number
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    return str(value)
