"""JSON lines: a line is an object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from .corpus_file import CorpusFile, Unusable
from .rows import Located, Row, RowFile


def open_rows(file: CorpusFile) -> RowFile:
    """The lines of a JSON-lines file that are not blank."""
    return RowFile(file, partial(_rows, file), count=file.lines or None)


def _rows(file: CorpusFile) -> Iterator[Located]:
    for number, line in file.numbered_lines():
        if isinstance(line, Unusable):
            yield f"{file.path}, line {number}", line
        elif line.strip():
            yield f"{file.path}, line {number}", _row(line)


def _row(line: str) -> Row | Unusable:
    try:
        row: Any = json.loads(line, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        return Unusable(f"the line is not JSON ({error})")
    return row if isinstance(row, dict) else Unusable("the line is JSON, but not an object with fields")


def no_constant(name: str) -> None:
    """Refuses NaN and Infinity, which Python reads and JSON does not know."""
    raise ValueError(f"{name} is not a JSON number")
