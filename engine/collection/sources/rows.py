"""A row of whatever kind of file → a document, or what is wrong with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..document import ID_FIELDS, Document, Fields, FieldType
from .corpus_file import CorpusFile, Unusable
from .field_types import Columns, converted

Row = dict[str, Any]
Located = tuple[str, Row | Unusable]
"""A row with where it is; Unusable in the place of one says what is wrong with it."""
HASH_DIGITS = 32
_NAMED = 8
"""Fields that a message names at most."""


@dataclass(frozen=True, slots=True)
class RowFile:
    """The rows of a file, read one by one. `columns`: of a kind that writes every value as text, else None."""

    file: CorpusFile
    read: Callable[[], Iterator[Located]]
    columns: Columns | None = None
    count: int | None = None
    """Rows to expect, where that is known."""


def document_in(
    row: Row, fields: Fields, types: Mapping[str, FieldType], prefix: str, header: Collection[str] = ()
) -> tuple[Document, bool]:
    """The document in a row, and whether its id is the hash of its content, since it has none of its own.

    prefix: what goes before an id that the row holds; header: fields that are empty where the row lacks them. Fields
    that are not named are metadata. Raises Unusable.
    """
    text = _value(row, fields.text, header, "text", "--text-field")
    title = row.get(fields.title)
    for name, value in ((fields.text, text), (fields.title, title)):
        if value is not None and not isinstance(value, str):
            raise Unusable(f"the field {name!r} is not text")
    names = ID_FIELDS if fields.id is None else (fields.id,)
    id_field = next((name for name in names if row.get(name) is not None), None)
    if id_field is None and fields.id is None and not any(name in row or name in header for name in names):
        identity = hashlib.sha256(f"{title or ''}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()[:HASH_DIGITS]
    else:
        missing = next((name for name in names if name in row or name in header), names[0])
        value = _value(row, id_field or missing, header, "id", "--id-field")
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise Unusable(f"the id in {id_field!r} is neither text nor a whole number")
        identity = f"{prefix}{value}" if value != "" else ""
    rest = {name: value for name, value in row.items() if name not in (id_field, fields.text, fields.title)}
    return Document(identity, title or "", text, _typed(rest, types)), id_field is None


def _value(row: Row, name: str, header: Collection[str], what: str, option: str) -> Any:
    """The value of a field that must have one."""
    if (value := row.get(name)) is not None:
        return value
    if name in row:
        raise Unusable(f"the field {name!r} is null, and it is to be the {what}")
    if name in header:
        raise Unusable(f"the field {name!r} is empty, and it is to be the {what}")
    there = ", ".join(map(repr, list(header or row)[:_NAMED])) or "no field at all"
    raise Unusable(f"there is no field {name!r} for the {what}, only {there}; name it with {option}")


def _typed(row: Row, types: Mapping[str, FieldType]) -> Row:
    if not types:
        return row
    made = dict(row)
    for name in types.keys() & row.keys():
        try:
            made[name] = converted(row[name], types[name])
        except ValueError:
            raise Unusable(f"the field {name!r} is no {types[name]}: {_short(row[name])}") from None
    return made


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:40]}…"
