"""How many things a body lists, looked at before it is checked one by one.

A megabyte of `1,` in place of texts cost seconds and a gigabyte while pydantic wrote down what was wrong with each. So
lists are counted first, and checking ends at the first wrong entry (`FailFast`).
"""

from __future__ import annotations

from typing import Any

from ..errors import Failure
from ..settings import ServerSettings

# Token ids of a request to /decode, in all; fields to read of a document; entries of a list in a list, of which only
# pairs of texts are valid.
MAX_IDS = 65_536
MAX_FIELDS = 64


def check_counts(body: Any, settings: ServerSettings) -> None:
    """Raises Failure when a list of `body` (parsed JSON) has more entries than a request may bring."""
    if not isinstance(body, dict):
        return
    limits = {
        "documents": settings.max_documents,
        "texts": settings.max_documents,
        "passages": settings.max_documents,
        "inputs": max(settings.max_inputs, settings.max_documents),
        "input": settings.max_inputs,
        "sentences": settings.max_inputs,
        "queries": settings.max_queries,
        "rank_fields": MAX_FIELDS,
        "ids": MAX_IDS,
    }
    for name, limit in limits.items():
        value = body.get(name)
        if isinstance(value, dict):  # /similarity has its sentences in an object
            check_counts(value, settings)
        elif isinstance(value, list):
            _check(name, len(value), limit)
            inner = sum(len(each) for each in value if isinstance(each, list))
            _check(name, inner, MAX_IDS)


def _check(name: str, count: int, limit: int) -> None:
    if count > limit:
        raise Failure("validation", f"{count} {name} exceed the limit of {limit}; split the request", param=name)
