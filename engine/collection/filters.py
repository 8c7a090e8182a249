"""Filters on metadata: which passages a search may return.

    {"lang": "en"}                                          a value
    {"year": {"$gte": 2019, "$lt": 2022}}                   $eq $ne $gt $gte $lt $lte
    {"tag": {"$in": ["a", "b"]}, "draft": {"$exists": false}}   several fields: all of them; $nin is the reverse of $in
    {"$or": [{"lang": "en"}, {"$not": {"year": 2020}}]}     $and, $or, $not

The operators are those that vector stores share. A field inside an object is `author.name`; a list matches when one of
its elements does; null and an empty list count as absent. Values compare only with values of their type: booleans,
numbers, or texts by code point, so dates as YYYY-MM-DD have their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from ..errors import InputError

MAX_DEPTH = 8
MAX_CONDITIONS = 64
MAX_VALUES = 1000
MAX_CHARACTERS = 1000
Mask = npt.NDArray[np.bool_]
_Number = StrictInt | Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Text = Annotated[StrictStr, Field(max_length=MAX_CHARACTERS)]
Ordered = _Number | _Text
Scalar = StrictBool | _Number | _Text
_SCALAR = f"a text of at most {MAX_CHARACTERS} characters, a finite number or a boolean"
_ORDERED = f"a text of at most {MAX_CHARACTERS} characters or a finite number"
_TAKES = {
    "$in": f"a list of at most {MAX_VALUES} texts, numbers and booleans",
    "$nin": f"a list of at most {MAX_VALUES} texts, numbers and booleans",
    **dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), _ORDERED),
    "$exists": "true or false",
}  # fmt: skip
Scalars = Annotated[tuple[Scalar, ...], Field(max_length=MAX_VALUES)]


class Values(Protocol):
    """What a filter asks of a collection: bool [n], the passages with such a value of a field."""

    def equal(self, field: str, value: bool | int | float | str) -> Mask: ...

    def above(self, field: str, value: float | str, *, inclusive: bool) -> Mask: ...

    def below(self, field: str, value: float | str, *, inclusive: bool) -> Mask: ...

    def present(self, field: str) -> Mask: ...


class Condition(BaseModel):
    """What one field's value must be; all given operators must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    eq: Scalar | None = Field(default=None, alias="$eq")
    ne: Scalar | None = Field(default=None, alias="$ne")
    gt: Ordered | None = Field(default=None, alias="$gt")
    gte: Ordered | None = Field(default=None, alias="$gte")
    lt: Ordered | None = Field(default=None, alias="$lt")
    lte: Ordered | None = Field(default=None, alias="$lte")
    among: Scalars | None = Field(default=None, alias="$in")
    not_among: Scalars | None = Field(default=None, alias="$nin")
    exists: StrictBool | None = Field(default=None, alias="$exists")

    def mask(self, field: str, values: Values) -> Mask:
        """bool [n]: passages whose `field` satisfies every operator."""
        masks: list[Mask] = []
        if self.eq is not None:
            masks.append(values.equal(field, self.eq))
        if self.ne is not None:
            masks.append(~values.equal(field, self.ne))
        for bound, search, inclusive in (
            (self.gt, values.above, False), (self.gte, values.above, True),
            (self.lt, values.below, False), (self.lte, values.below, True),
        ):  # fmt: skip
            if bound is not None:
                masks.append(search(field, bound, inclusive=inclusive))
        if self.among is not None:
            masks.append(_any_of(self.among, field, values))
        if self.not_among is not None:
            masks.append(~_any_of(self.not_among, field, values))
        if self.exists is not None:
            present = values.present(field)
            masks.append(present if self.exists else ~present)
        return _both(masks)


@dataclass(frozen=True, slots=True)
class _Test:
    field: str
    condition: Condition

    def mask(self, values: Values) -> Mask:
        return self.condition.mask(self.field, values)


@dataclass(frozen=True, slots=True)
class _All:
    parts: tuple[Filter, ...]

    def mask(self, values: Values) -> Mask:
        return _both([part.mask(values) for part in self.parts])


@dataclass(frozen=True, slots=True)
class _Any:
    parts: tuple[Filter, ...]

    def mask(self, values: Values) -> Mask:
        return _either([part.mask(values) for part in self.parts])


@dataclass(frozen=True, slots=True)
class _Not:
    part: Filter

    def mask(self, values: Values) -> Mask:
        return ~self.part.mask(values)


Filter = _Test | _All | _Any | _Not
"""A parsed filter: hashable, equal to another of the same form."""


def parse(document: Any) -> Filter:
    """A filter as JSON → its parsed form. Raises InputError, whose message repeats nothing of the document."""
    budget = [MAX_CONDITIONS]
    return _parse(document, MAX_DEPTH, budget)


def _parse(document: Any, depth: int, budget: list[int]) -> Filter:
    if not isinstance(document, dict) or not document:
        raise InputError("filters: give an object with at least one field or one of $and, $or, $not")
    if not depth:
        raise InputError(f"filters: they are nested more than {MAX_DEPTH} deep; write them flatter")
    parts = tuple(_entry(str(name), value, depth - 1, budget) for name, value in document.items())
    return parts[0] if len(parts) == 1 else _All(parts)


def _entry(name: str, value: Any, depth: int, budget: list[int]) -> Filter:
    groups: dict[str, Callable[[tuple[Filter, ...]], Filter]] = {"$and": _All, "$or": _Any}
    if name in groups:
        if not isinstance(value, list) or not value:
            raise InputError(f"filters: {name} takes a list of at least one filter")
        return groups[name](tuple(_parse(part, depth, budget) for part in value))
    if name == "$not":
        return _Not(_parse(value, depth, budget))
    if name.startswith("$"):
        raise InputError("filters: between fields only $and, $or and $not may stand")
    budget[0] -= 1
    if budget[0] < 0:
        raise InputError(f"filters: they hold more than {MAX_CONDITIONS} conditions; use $in for lists of values")
    return _Test(name, _condition(value))


def _condition(value: Any) -> Condition:
    operators = value if isinstance(value, dict) else {"$eq": value}
    known = ", ".join(str(field.alias) for field in Condition.model_fields.values())
    if not operators or None in operators.values():
        raise InputError("filters: a condition needs a value; for a field that is absent write {$exists: false}")
    try:
        return Condition.model_validate(operators)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        if first["type"] == "extra_forbidden":
            raise InputError(f"filters: a condition holds only {known}") from None
        raise InputError(f"filters: {first['loc'][0]} takes {_TAKES.get(str(first['loc'][0]), _SCALAR)}") from None


def _any_of(wanted: tuple[bool | int | float | str, ...], field: str, values: Values) -> Mask:
    if not wanted:
        return np.zeros_like(values.present(field))
    return _either([values.equal(field, value) for value in wanted])


def _both(masks: Sequence[Mask]) -> Mask:
    mask: Mask = np.logical_and.reduce(masks)
    return mask


def _either(masks: Sequence[Mask]) -> Mask:
    mask: Mask = np.logical_or.reduce(masks)
    return mask
