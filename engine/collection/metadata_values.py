"""The metadata of all segments of a version, by value (see `metadata_index`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from .filters import KINDS, Condition, Mask
from .metadata_index import MetadataIndex

NAMED = 10
"""Fields that a sentence names at most."""


class MetadataValues:
    """The values of the segments `parts`, in their order; rows count through them."""

    def __init__(self, parts: Sequence[MetadataIndex]) -> None:
        self._parts = tuple(parts)

    def __call__(self, condition: Condition) -> Mask:
        """bool [n]: the passages of which `condition` holds (see `filters.Found`)."""
        if len(self._parts) == 1:
            return self._parts[0](condition)
        return np.concatenate([np.zeros(0, dtype=np.bool_), *(part(condition) for part in self._parts)])

    @cached_property
    def fields(self) -> dict[str, tuple[str, ...]]:
        """Every field that has a value, by name, with the kinds of its values."""
        names = sorted({name for part in self._parts for name in part.fields})
        return {name: tuple(KINDS[kind] for kind in self._kinds(name)) for name in names}

    def unanswerable(self, condition: Condition) -> str:
        """Why no passage can satisfy `condition` whatever its values are, in a sentence; else nothing.

        Whether a field is there at all is an answer in itself, so `exists` always can.
        """
        if condition.operator == "exists":
            return ""
        asked = {kind for kind, _ in condition.values}
        held = self._kinds(condition.field)
        if not asked or asked & set(held):
            return ""
        if held:
            wanted = " or ".join(KINDS[kind] for kind in sorted(asked))
            said = ", ".join(KINDS[kind] for kind in held)
            return f"no passage has a {wanted} in the field {condition.field!r}: its values are of type {said}"
        return f"no passage has the field {condition.field!r}{self._others()}"

    def _kinds(self, field: str) -> list[int]:
        return sorted({kind for part in self._parts for kind in part.kinds(field)})

    def _others(self) -> str:
        names = list(self.fields)
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        return f"; there are {', '.join(map(repr, names[:NAMED]))}{more}" if names else "; there is no metadata at all"
