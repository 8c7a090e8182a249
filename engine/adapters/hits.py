"""What of a hit goes into a framework's document beside its text and its id."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import Any

from ..result import Hit, SearchResult

FACTS = tuple(field.name for field in fields(Hit) if field.name not in ("id", "text", "metadata"))
"""Of a hit: its document, title, place and scores."""
OF_THE_SEARCH = ("degraded", "degraded_code")


def metadata_of(result: SearchResult, hit: Hit, elsewhere: Collection[str] = ()) -> dict[str, Any]:
    """The document's own metadata, the hit's FACTS, and what the search left undone.

    elsewhere: names that the framework has a field for; they are left out. Where the document's own metadata has one
        of all these names, it goes under `metadata.NAME`.
    """
    facts = {name: getattr(hit, name) for name in FACTS} | {name: getattr(result, name) for name in OF_THE_SEARCH}
    taken = {*facts, *elsewhere}
    own = {f"metadata.{name}" if name in taken else name: value for name, value in hit.metadata.items()}
    return own | {name: value for name, value in facts.items() if name not in elsewhere}
