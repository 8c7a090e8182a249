"""A server's answers: what they hold, and where they are none, one sentence in the classes of `errors`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from ..errors import CollectionError, EngineError, InferenceError, InputError, Overloaded, TandemError
from ..result import Reranked, SearchResult

Read = TypeVar("Read")


def read(url: str, content: bytes, how: Callable[[bytes], Read]) -> Read:
    """The body of a good answer; raises EngineError where it is none of Tandem's."""
    try:
        return how(content)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise EngineError(
            f"what {url} answered is no answer of Tandem's; check the URL, and that both are of one version"
        ) from error


def found(content: bytes) -> SearchResult:
    """Of `/v1/search` with one query."""
    return _results()[0].validate_json(content)


def all_found(content: bytes) -> list[SearchResult]:
    """Of `/v1/search` with several."""
    return _results()[1].validate_json(content)["results"]


@cache
def _results() -> tuple[TypeAdapter[SearchResult], TypeAdapter[dict[str, list[SearchResult]]]]:
    return TypeAdapter(SearchResult), TypeAdapter(dict[str, list[SearchResult]])


def ranked(content: bytes) -> list[tuple[int, float]]:
    """Of `/v1/rerank` with `use_activation` false: places and logits, best first."""
    return [(int(row["index"]), float(row["relevance_score"])) for row in json.loads(content)["results"]]


def passages(texts: list[str]) -> Callable[[bytes], list[Reranked]]:
    """The same as what `Engine.rerank` gives of `texts`."""
    return lambda content: [Reranked(place, logit, texts[place]) for place, logit in ranked(content)]


def vectors(content: bytes) -> npt.NDArray[np.float32]:
    """Of `/v1/embeddings` in base64: float32 [n, d]."""
    rows = [base64.b64decode(row["embedding"]) for row in json.loads(content)["data"]]
    return np.stack([np.frombuffer(row, dtype="<f4") for row in rows])


def failure(url: str, status: int, content: bytes, collection: str | None) -> TandemError:
    """The error for an answer whose status is not 200."""
    said = _message(content)
    because = "" if said is None else f": {said}"
    match status:
        case 401:
            return InputError(f"{url} wants another key: give api_key, one of the keys in the server's file")
        case 404 if said is not None and collection is not None:
            return CollectionError(f"{url} has no collection {collection!r}{because}")
        case 404 | 405:
            return InputError(f"{url} has none of Tandem's routes{because}; give the address of `tandem serve`")
        case 429:
            return Overloaded(f"{url} has too much to do; try again later{because}")
        case 500 | 424:
            return InferenceError(f"{url} failed on this request{because}")
        case 502 | 503:
            return EngineError(f"{url} is not ready to answer; try again later{because}")
        case 504:
            return EngineError(f"{url} had no time left for this request; ask for less at once{because}")
        case _ if 400 <= status < 500:
            return InputError(f"{url} refused the request{because or f' with status {status}'}")
        case _:
            return EngineError(f"{url} answered with status {status}{because}; give the address of `tandem serve`")


def _message(content: bytes) -> str | None:
    """What a body of one of the server's dialects says; None: it is of something else."""
    try:
        body: Any = json.loads(content)
    except ValueError:
        return None
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    return error if isinstance(error, str) else None
