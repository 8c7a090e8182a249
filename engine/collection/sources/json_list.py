"""JSON that is one list of objects, or one object that holds one such list. Its text is held in memory, its objects
are parsed one by one."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from functools import partial
from typing import Any

from ...errors import CorpusError
from .corpus_file import CorpusFile, Unusable
from .jsonl import no_constant
from .rows import Located, RowFile

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(parse_constant=no_constant)
_WANTED = (
    "a .json file holds one list of objects, or one object with one list of objects (--exclude leaves "
    "other files of a folder out)"
)


def open_rows(file: CorpusFile) -> RowFile:
    """The objects of the list in a JSON file; raises CorpusError, when it is read, for what is neither form."""
    return RowFile(file, partial(_rows, file))


def _rows(file: CorpusFile) -> Iterator[Located]:
    try:
        text = file.whole_text()
    except Unusable as wrong:
        raise CorpusError(f"{file.path}: {wrong}") from None
    number, line, counted = 0, 1, 0
    try:
        for start, item in _items(text):
            number, line, counted = number + 1, line + text.count("\n", counted, start), start
            where = f"{file.path}, line {line} (object {number} of its list)"
            yield where, item if isinstance(item, dict) else Unusable("the list holds something that is no object")
    except json.JSONDecodeError as error:
        raise CorpusError(f"{file.path}, line {error.lineno}: {error.msg}; {_WANTED}") from error
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{file.path}, after line {line}: not JSON ({error})") from error


def _items(text: str) -> Iterator[tuple[int, Any]]:
    """The values of the list of objects, each with where it is. Raises ValueError where there is no such list."""
    start = _skip(text, 0)
    if text.startswith("[", start):
        end = yield from _values(text, start + 1)
        _check_end(text, end, "list")
    else:
        yield from _values(text, _list_in_object(text, start) + 1)


def _list_in_object(text: str, start: int) -> int:
    """Where the one list of objects is that the object at `start` holds."""
    if not text.startswith("{", start):
        raise json.JSONDecodeError(f"it begins with {text[start : start + 1]!r}", text, start)
    lists = [where for where, value in _members(text, start + 1) if _is_list_of_objects(value)]
    if len(lists) != 1:
        raise json.JSONDecodeError(f"its object holds {len(lists) or 'no'} lists of objects", text, start)
    return lists[0]


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _values(text: str, place: int) -> Generator[tuple[int, Any], None, int]:
    """The values of the list that begins at `place`, each with where it is; returns where the list ends."""
    place = _skip(text, place)
    while not text.startswith("]", place):
        value, end = _DECODER.raw_decode(text, place)
        yield place, value
        place = _next(text, end, "]")
    return place


def _members(text: str, place: int) -> Iterator[tuple[int, Any]]:
    """The values of the object that begins at `place`, each with where it is. Nothing may follow the object."""
    place = _skip(text, place)
    while not text.startswith("}", place):
        name, end = _DECODER.raw_decode(text, place)
        colon = _skip(text, end)
        if not isinstance(name, str) or not text.startswith(":", colon):
            raise json.JSONDecodeError("a name and a colon are expected", text, colon)
        start = _skip(text, colon + 1)
        value, end = _DECODER.raw_decode(text, start)
        yield start, value
        place = _next(text, end, "}")
    _check_end(text, place, "object")


def _check_end(text: str, end: int, what: str) -> None:
    if (rest := _skip(text, end + 1)) < len(text):
        raise json.JSONDecodeError(f"something follows its {what} (one object a line is .jsonl)", text, rest)


def _next(text: str, end: int, closing: str) -> int:
    """Where the next value begins, or the bracket that closes."""
    place = _skip(text, end)
    if text.startswith(closing, place):
        return place
    if not text.startswith(",", place):
        raise json.JSONDecodeError(f"a comma or {closing} is expected", text, place)
    following = _skip(text, place + 1)
    if text.startswith(closing, following):
        raise json.JSONDecodeError(f"a value is expected before {closing}", text, following)
    return following


def _skip(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    return place if match is None else match.end()
