"""A search's answer as the client gets it: written once, where the engine is.

Where that is a worker, the HTTP process passes the bytes on and never looks at a hit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import orjson

from ..result import DegradedCode, Hit, SearchResult, Timings

# Not dataclasses.asdict, which copies every value: a third of a millisecond for ten hits.
_RESULT, _HIT, _TIMINGS = ([field.name for field in fields(each)] for each in (SearchResult, Hit, Timings))


@dataclass(frozen=True, slots=True)
class SearchResponse:
    """One query's answer: `body` is its JSON; `timings` and `degraded_code` are for the metrics."""

    body: bytes
    timings: Timings
    degraded_code: DegradedCode | None


def found(result: SearchResult, *, return_text: bool) -> SearchResponse:
    """Write a result; without the hits' texts unless they are wanted."""
    names = [name for name in _HIT if return_text or name != "text"]
    answer: dict[str, Any] = {name: getattr(result, name) for name in _RESULT}
    answer["hits"] = [{name: getattr(hit, name) for name in names} for hit in result.hits]
    answer["timings"] = {stage: round(getattr(result.timings, stage), 3) for stage in _TIMINGS}
    return SearchResponse(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), result.timings, result.degraded_code)


def together(answers: list[SearchResponse]) -> bytes:
    """The JSON of several queries' answers."""
    return b'{"results":[' + b",".join(answer.body for answer in answers) + b"]}"
