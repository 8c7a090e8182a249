"""Filters on metadata: which passages a search may return.

    {"lang": "en"}                                          a value
    {"year": {"$gte": 2019, "$lt": 2022}}                   $eq $ne $gt $gte $lt $lte
    {"tag": {"$in": ["a", "b"]}, "draft": {"$exists": false}}   several fields: all of them; $nin is the reverse of $in
    {"$or": [{"lang": "en"}, {"$not": {"year": 2020}}]}     $and, $or, $not

The operators are those that vector stores share. A field inside an object is `author.name`; a list matches when one of
its elements does; null and an empty list count as absent. Values compare only with values of their type: booleans,
numbers, or texts by code point, so dates as YYYY-MM-DD have their order.

A parsed filter is worked out one condition at a time (`Filter.steps`), so that whoever pays for the work may stop
between two of them. The limits bound all of a filter together: the worst one takes some 20 ms of 100,000 passages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from ..errors import InputError

MAX_DEPTH = 8
MAX_CONDITIONS = 64
"""Operators in a whole filter: each marks up to all passages, 0.3 ms at 100,000 of them."""
MAX_VALUES = 1000
"""Values of all `$in` and `$nin` of a filter together: each is a binary search, 10 us at 100,000 different values."""
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
Value = bool | int | float | str
BOOLEAN, NUMBER, TEXT = range(3)
KINDS = ("boolean", "number", "text")
"""What each kind is called."""


def kind_of(value: Value) -> int:
    """BOOLEAN, NUMBER or TEXT: only values of one kind compare."""
    if isinstance(value, bool):
        return BOOLEAN
    return TEXT if isinstance(value, str) else NUMBER


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one field. `values`, each with its kind: those of `in`, one of an order, none of `exists`."""

    field: str
    operator: Literal["in", "gt", "gte", "lt", "lte", "exists"]
    values: tuple[tuple[int, Value], ...] = ()

    def steps(self, found: Found) -> Steps:
        mask = found(self)
        yield
        return mask

    def leaves(self) -> Iterator[Condition]:
        yield self


Found = Callable[[Condition], Mask]
"""What a filter asks of a collection: bool [n], the passages of which a condition holds; a new array each time."""
Steps = Generator[None, None, Mask]


class _Node(Protocol):
    def steps(self, found: Found) -> Steps: ...

    def leaves(self) -> Iterator[Condition]: ...


@dataclass(frozen=True, slots=True)
class _All:
    parts: tuple[_Node, ...]

    def steps(self, found: Found) -> Steps:
        mask = yield from self.parts[0].steps(found)
        for part in self.parts[1:]:
            mask &= yield from part.steps(found)
        return mask

    def leaves(self) -> Iterator[Condition]:
        return chain.from_iterable(part.leaves() for part in self.parts)


@dataclass(frozen=True, slots=True)
class _Any:
    parts: tuple[_Node, ...]

    def steps(self, found: Found) -> Steps:
        mask = yield from self.parts[0].steps(found)
        for part in self.parts[1:]:
            mask |= yield from part.steps(found)
        return mask

    def leaves(self) -> Iterator[Condition]:
        return chain.from_iterable(part.leaves() for part in self.parts)


@dataclass(frozen=True, slots=True)
class _Not:
    part: _Node

    def steps(self, found: Found) -> Steps:
        return ~(yield from self.part.steps(found))

    def leaves(self) -> Iterator[Condition]:
        return self.part.leaves()


@dataclass(frozen=True)
class Filter:
    """A parsed filter: hashable, equal to another that means the same in the same words. `conditions`: how many."""

    tree: _Node
    conditions: int

    def steps(self, found: Found) -> Steps:
        """Work it out: yields after each condition, and returns bool [n], the passages that it leaves."""
        return self.tree.steps(found)

    def leaves(self) -> Iterator[Condition]:
        """Its conditions, as they are written."""
        return self.tree.leaves()

    def mask(self, found: Found) -> Mask:
        """bool [n]: the passages that it leaves."""
        steps = self.steps(found)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                mask: Mask = end.value
                return mask

    @cached_property
    def fingerprint(self) -> bytes:
        """What it is remembered by: 32 bytes, where its values may take a megabyte."""
        return hashlib.sha256(repr(self.tree).encode("utf-8", "surrogatepass")).digest()


class _Operators(BaseModel):
    """The operators that one field is given, as they are written."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    eq: Scalar | None = Field(default=None, alias="$eq")
    ne: Scalar | None = Field(default=None, alias="$ne")
    gt: Ordered | None = Field(default=None, alias="$gt")
    gte: Ordered | None = Field(default=None, alias="$gte")
    lt: Ordered | None = Field(default=None, alias="$lt")
    lte: Ordered | None = Field(default=None, alias="$lte")
    among: tuple[Scalar, ...] | None = Field(default=None, alias="$in")
    not_among: tuple[Scalar, ...] | None = Field(default=None, alias="$nin")
    exists: StrictBool | None = Field(default=None, alias="$exists")

    def conditions(self, field: str) -> list[_Node]:
        """What must hold of `field`, all of it."""
        nodes: list[_Node] = []
        for wanted in (self.among, None if self.eq is None else (self.eq,)):
            if wanted is not None:
                nodes.append(_among(field, wanted))
        for unwanted in (self.not_among, None if self.ne is None else (self.ne,)):
            if unwanted is not None:
                nodes.append(_Not(_among(field, unwanted)))
        bounds: tuple[tuple[Literal["gt", "gte", "lt", "lte"], Value | None], ...] = (
            ("gt", self.gt), ("gte", self.gte), ("lt", self.lt), ("lte", self.lte)
        )  # fmt: skip
        nodes += [Condition(field, name, ((kind_of(bound), bound),)) for name, bound in bounds if bound is not None]
        if self.exists is not None:
            present = Condition(field, "exists")
            nodes.append(present if self.exists else _Not(present))
        return nodes


_KNOWN = tuple(str(field.alias) for field in _Operators.model_fields.values())


def parse(document: Any) -> Filter:
    """A filter as JSON → its parsed form. Raises InputError, whose message repeats nothing of the document."""
    limits = _Limits()
    return Filter(_parse(document, MAX_DEPTH, limits), MAX_CONDITIONS - limits.conditions)


@dataclass(slots=True)
class _Limits:
    """What the rest of a filter may still hold."""

    conditions: int = MAX_CONDITIONS
    values: int = MAX_VALUES

    def take(self, operators: dict[str, Any]) -> None:
        """Count the operators of one field and the values in their lists, before anything looks at each of them."""
        self.conditions -= len(operators)
        if self.conditions < 0:
            raise InputError(
                f"filters: they hold more than {MAX_CONDITIONS} conditions, where each operator is one; use $in for "
                "lists of values"
            )
        for name in ("$in", "$nin"):
            if isinstance(values := operators.get(name), list | tuple):
                self.values -= len(values)
        if self.values < 0:
            raise InputError(
                f"filters: their $in and $nin hold more than {MAX_VALUES} values in all; ask for fewer in several "
                "searches, or give such passages a metadata field of their own and filter by it"
            )


def _parse(document: Any, depth: int, limits: _Limits) -> _Node:
    if not isinstance(document, dict) or not document:
        raise InputError("filters: give an object with at least one field or one of $and, $or, $not")
    if not depth:
        raise InputError(f"filters: they are nested more than {MAX_DEPTH} deep; write them flatter")
    parts = tuple(_entry(str(name), value, depth - 1, limits) for name, value in document.items())
    return parts[0] if len(parts) == 1 else _All(parts)


def _entry(name: str, value: Any, depth: int, limits: _Limits) -> _Node:
    groups: dict[str, Callable[[tuple[_Node, ...]], _Node]] = {"$and": _All, "$or": _Any}
    if name in groups:
        if not isinstance(value, list) or not value:
            raise InputError(f"filters: {name} takes a list of at least one filter")
        return groups[name](tuple(_parse(part, depth, limits) for part in value))
    if name == "$not":
        return _Not(_parse(value, depth, limits))
    if name.startswith("$"):
        raise InputError("filters: between fields only $and, $or and $not may stand")
    if len(name) > MAX_CHARACTERS:
        raise InputError(f"filters: the name of a field has more than {MAX_CHARACTERS} characters")
    nodes = _operators(value, limits).conditions(name)
    return nodes[0] if len(nodes) == 1 else _All(tuple(nodes))


def _operators(value: Any, limits: _Limits) -> _Operators:
    operators = value if isinstance(value, dict) else {"$eq": value}
    if not operators or None in operators.values():
        raise InputError("filters: a condition needs a value; for a field that is absent write {$exists: false}")
    if not operators.keys() <= set(_KNOWN):
        raise InputError(f"filters: a condition holds only {', '.join(_KNOWN)}")
    limits.take(operators)
    try:
        return _Operators.model_validate(operators)
    except ValidationError as error:
        name = str(error.errors(include_input=False)[0]["loc"][0])
        raise InputError(f"filters: {name} takes {_TAKES.get(name, _SCALAR)}") from None


def _among(field: str, wanted: tuple[Value, ...]) -> Condition:
    return Condition(field, "in", tuple((kind_of(value), value) for value in wanted))
