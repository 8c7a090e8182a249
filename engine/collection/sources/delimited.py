"""CSV and TSV: rows under a header line, cut at whatever the header is cut at.

The file is read once when it is opened: how it is to be cut, how many rows there are, and the types of its columns.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal

from ...errors import CorpusError
from .corpus_file import MARK, CorpusFile, Unusable, reading
from .field_types import Columns
from .rows import Located, RowFile

DELIMITERS = (",", ";", "\t", "|")
"""The one that cuts the header into most names is the file's; of equals the first."""
HEADER = 65_536
"""Characters in which the header must end."""
_CALLED = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
"""A first line with which a spreadsheet names the delimiter."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How a file is cut into cells. `quotes`: whether quotation marks hold a cell together; `skipped`: lines before
    the header."""

    delimiter: str
    quotes: bool = True
    skipped: int = 0


def open_rows(file: CorpusFile, *, tabs: bool = False) -> RowFile:
    """The rows of a CSV file, or of one with tabs whatever its header looks like.

    Quotation marks are those of CSV. Where that cannot be read, and the delimiter is a tab, they are plain characters:
    many programs write them so. Raises CorpusError where the file cannot be read.
    """
    cut = _cut(file, tabs)
    try:
        columns, count = _survey(file, cut)
    except CorpusError:
        if cut.delimiter != "\t":
            raise
        cut = Cut("\t", quotes=False, skipped=cut.skipped)
        columns, count = _survey(file, cut)
    return RowFile(file, partial(_rows, file, cut), columns, count)


def _cut(file: CorpusFile, tabs: bool) -> Cut:
    with reading(file.path), file.text() as text:
        try:
            head = text.read(HEADER).removeprefix(MARK)
        except UnicodeDecodeError as error:
            raise file.undecodable(0, error) from error
    called = _CALLED.match(head)
    if called and not tabs:
        return Cut(called[1], skipped=1)
    if tabs:
        return Cut("\t")
    return Cut(max(DELIMITERS, key=partial(_names, head)))


def _names(head: str, delimiter: str) -> int:
    """Names in the header, if the file is cut at `delimiter`."""
    try:
        return len(next(csv.reader(io.StringIO(head, newline=""), delimiter=delimiter), []))
    except csv.Error:
        return 0


def _survey(file: CorpusFile, cut: Cut) -> tuple[Columns, int]:
    """The types of the columns, and how many rows there are."""
    cells = _cells(file, cut)
    header = _header(file, cells)
    columns, count = Columns(filter(None, header)), 0
    for _, row in cells:
        count += 1
        if not isinstance(named := _row(header, row), Unusable):
            columns.feed(named)
    return columns, count


def _rows(file: CorpusFile, cut: Cut) -> Iterator[Located]:
    cells = _cells(file, cut)
    header = _header(file, cells)
    for line, row in cells:
        yield f"{file.path}, line {line}", _row(header, row)


def _cells(file: CorpusFile, cut: Cut) -> Iterator[tuple[int, list[str]]]:
    """The header and the rows, each with the line where it ends. A broken row spoils where the next one starts, so that
    it ends the reading."""
    csv.field_size_limit(2**31 - 1)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if cut.quotes else csv.QUOTE_NONE
    with reading(file.path), file.text() as text:
        rows = csv.reader(_lines(text, cut.skipped), delimiter=cut.delimiter, quoting=quoting, strict=True)
        try:
            for row in rows:
                if row:
                    yield rows.line_num + cut.skipped, row
        except csv.Error as error:
            line = rows.line_num + cut.skipped
            raise CorpusError(
                f"{file.path}, line {line}: the row is not CSV ({error}); mend the file, or leave it out of "
                "its folder with --exclude"
            ) from error
        except UnicodeDecodeError as error:
            raise file.undecodable(rows.line_num + cut.skipped, error) from error


def _header(file: CorpusFile, cells: Iterator[tuple[int, list[str]]]) -> list[str]:
    """The names of the columns, taken from the first of `cells`."""
    _, row = next(cells, (0, []))
    names = [name.strip() for name in row]
    twice = [name for name, times in Counter(names).items() if times > 1 and name]
    if twice:
        raise CorpusError(f"{file.path}: the header names the column {twice[0]!r} twice; give each a name of its own")
    return names


def _row(header: list[str], cells: list[str]) -> dict[str, str] | Unusable:
    """The cells that are not empty by the names of their columns; one without a name is an index, as pandas writes."""
    if any(cells[len(header) :]):
        return Unusable("the row has more values than the header has names")
    return {name: cell for name, cell in zip(header, cells, strict=False) if name and cell != ""}


def _lines(text: Iterable[str], skipped: int) -> Iterator[str]:
    """The lines of a file without its byte-order mark, from the header on."""
    lines = iter(text)
    first = next(lines, "").removeprefix(MARK)
    if skipped:
        yield from islice(lines, skipped - 1, None)
        return
    yield first
    yield from lines
