"""Types of metadata that is written as text, as in CSV: inferred over a whole column, or named with --field.

A column is `number` where each of its values is one as JSON writes it, `boolean` where each is true or false in any
case, and `date` where each is an ISO date, or an ISO time with the same separator and offset; else it is `text`. So
numbers with leading zeros or more than 18 digits, and columns of mixed values, stay text. Dates are kept as they are
written, and sort rightly like that.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, get_args

from ..document import FieldType

TYPES: tuple[FieldType, ...] = get_args(FieldType)
TEXT: FieldType = "text"
_DIGITS = 18
"""A longer whole number is a key, and does not fit into 64 bits."""
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_ANY_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:([T ])[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_BOOLEANS = {"true": True, "false": False}
_ALSO_BOOLEANS = _BOOLEANS | {"yes": True, "no": False, "1": True, "0": False}
"""What a field that is named boolean may hold besides."""


class Columns:
    """What the values of each column have in common: the type, and for dates their form."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        """`names`: of all columns, those without a value too."""
        self.names = tuple(names)
        self._forms: dict[str, str] = {}

    def feed(self, row: Mapping[str, Any]) -> None:
        """One row; an absent value says nothing of its column."""
        for name, value in row.items():
            if value is not None and (before := self._forms.get(name)) != TEXT:
                form = _form(value)
                self._forms[name] = form if before in (None, form) else TEXT

    def types(self, without: Iterable[str] = ()) -> dict[str, FieldType]:
        """The type of each column that has a value."""
        forms = {name: form for name, form in self._forms.items() if name not in set(without)}
        return {name: kind for name, form in forms.items() for kind in TYPES if form.startswith(kind)}

    @classmethod
    def of_all(cls, each: Iterable[Columns]) -> Columns:
        """What the columns of several files have in common."""
        together = cls()
        for columns in each:
            for name, form in columns._forms.items():
                before = together._forms.get(name)
                together._forms[name] = form if before in (None, form) else TEXT
        return together


def converted(value: Any, wanted: FieldType) -> Any:
    """A field's value in the type that it is to have; an empty text is no value, unless it is to be text. A list is
    converted value by value. Raises ValueError where it is not of that type."""
    if isinstance(value, list):
        return [converted(each, wanted) for each in value]
    if value is None or (value == "" and wanted != TEXT):
        return None
    if wanted == TEXT:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, str):
        return _READ[wanted](value.strip())
    if (isinstance(value, bool) and wanted == "boolean") or (_is_number(value) and wanted == "number"):
        return value
    raise ValueError(value)


def _form(value: str) -> str:
    """A type; of a date also what else must agree for dates to sort as text."""
    value = value.strip()
    if _NUMBER.fullmatch(value):
        return "number" if _fits(value) else TEXT
    if match := _DATE.fullmatch(value):
        return f"date {match[1] or ''}{match[2] or ''}" if _is_real(value) else TEXT
    return "boolean" if value.lower() in _BOOLEANS else TEXT


def _fits(number: str) -> bool:
    return len(number.lstrip("-")) <= _DIGITS if number.lstrip("-").isdigit() else math.isfinite(float(number))


def _is_real(date: str) -> bool:
    try:
        datetime.fromisoformat(date)
    except ValueError:
        return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: str) -> int | float:
    if not _ANY_NUMBER.fullmatch(value) or not math.isfinite(float(value)):
        raise ValueError(value)
    digits = value.lstrip("+-")
    return int(value) if digits.isdigit() and len(digits) <= _DIGITS else float(value)


def _boolean(value: str) -> bool:
    if value.lower() not in _ALSO_BOOLEANS:
        raise ValueError(value)
    return _ALSO_BOOLEANS[value.lower()]


def _date(value: str) -> str:
    if not _DATE.fullmatch(value) or not _is_real(value):
        raise ValueError(value)
    return value


_READ: dict[FieldType, Any] = {"number": _number, "boolean": _boolean, "date": _date}
