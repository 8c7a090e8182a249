"""What both backends do with texts and answers: many texts go in parts, and what was not honoured is said."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..result import Reranked, SearchResult
from ..text.checking import checked_all
from ..text.prompting import PromptWish

# Of one call. A server takes 2,048 texts and 8 MiB, of which a character is six bytes at most (an escape in JSON); an
# engine's queue takes 2 million tokens.
MOST_TEXTS = 256
MOST_CHARACTERS = 500_000


def parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """`texts` in order, as many at a time as one call takes, and one empty part where there is none: then an engine
    that is closed still says so. Raises InputError for what is no text."""
    part: list[str] = []
    characters = 0
    for text in checked_all(texts):
        characters += len(text)
        if part and (len(part) == MOST_TEXTS or characters > MOST_CHARACTERS):
            yield part
            part, characters = [], len(text)
        part.append(text)
    yield part


def joined(vectors: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """float32 [n, d]: the vectors of all parts; [0, 0] of none."""
    return np.concatenate(vectors) if vectors else np.empty((0, 0), dtype=np.float32)


def floats(vectors: npt.NDArray[np.float32]) -> list[list[float]]:
    """Vectors [n, d] as frameworks keep them."""
    rows: list[list[float]] = vectors.tolist()
    return rows


def united(texts: Sequence[str], ranked: Sequence[list[Reranked]]) -> list[Reranked]:
    """One order of all parts, as one call would have given it: by score, blank texts last."""
    start = 0
    passages: list[Reranked] = []
    for part in ranked:
        passages += [replace(passage, index=passage.index + start) for passage in part]
        start += len(part)
    return sorted(passages, key=lambda passage: (not texts[passage.index].strip(), -passage.score, passage.index))


def told(result: SearchResult) -> SearchResult:
    """`result`; what of a filter or of the collection could not be honoured becomes a Python warning, since frameworks
    have no place for it."""
    for sentence in result.warnings:
        warnings.warn(sentence, stacklevel=2)
    return result


def words(wish: PromptWish) -> dict[str, Any]:
    """What of `wish` is given, by the names that an engine and a server have for it."""
    given = {"prompt_name": wish.name, "prompt": wish.text, "instruction": wish.instruction}
    return {name: value for name, value in given.items() if value is not None}
