"""Real text that every machine has: the documentation strings of Python's standard library."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from ...engine.collection import read_corpus
from ...engine.errors import ExportError

SHORTEST = 80  # characters; shorter ones say little
# Most strings are cut to about 60 tokens, which keeps the check of a large model to minutes; every 20th stays whole,
# and one, made of many, is longer than 512 tokens.
CUT, WHOLE_EVERY, LONG = 256, 20, 8000
MOST = 400  # strings, spread over all modules
# CPUs emulate FP16 arithmetic, several times slower than FP32: fewer pairs prove it.
FP16_QUERIES, FP16_CANDIDATES = 8, 20


@dataclass(frozen=True, slots=True)
class Samples:
    """Queries, texts, and for each query the texts it is compared with.

    candidates: int64 [queries, candidates]   rows of `texts`
    """

    queries: tuple[str, ...]
    texts: tuple[str, ...]
    candidates: npt.NDArray[np.int64]

    def head(self, queries: int, candidates: int) -> Samples:
        """The first `queries` queries with their first `candidates` candidates."""
        return Samples(self.queries[:queries], self.texts, self.candidates[:queries, :candidates])


def sample(
    texts: Sequence[str] | None, queries: Sequence[str] | None, *, count: int = 20, candidates: int = 50
) -> Samples:
    """`count` queries with `candidates` neighbouring texts each, from the caller's texts or the standard library's.

    Neighbours speak of the same things (one module's functions), which makes their order a real test. Raises
    ExportError when there are fewer than two texts or no queries.
    """
    texts = tuple(dict.fromkeys(docstrings() if texts is None else texts))
    if len(texts) < 2:
        raise ExportError("the parity check needs at least two different texts")
    rows = np.linspace(0, len(texts) - 1, num=min(count, len(texts)), dtype=np.int64)
    if queries is None:
        queries = [first_sentence(texts[row]) for row in rows]
    elif not queries:
        raise ExportError("the parity check needs at least one query")
    queries = tuple(queries)[:count]
    width = min(candidates, len(texts))
    starts = np.clip(rows[np.arange(len(queries)) % len(rows)] - width // 2, 0, len(texts) - width)
    return Samples(queries, texts, starts[:, None] + np.arange(width))


@cache
def docstrings() -> tuple[str, ...]:
    """Documentation strings of the standard library, in a fixed order; raises ExportError when there are none."""
    found = [document.text for document in read_corpus("python:stdlib") if len(document.text) >= SHORTEST]
    if not found:
        raise ExportError("this Python's standard library has no documentation to take real text from; give texts")
    chosen = found[:: -(-len(found) // MOST)]
    texts = [text if row % WHOLE_EVERY == 0 else text[:CUT] for row, text in enumerate(chosen)]
    texts.insert(len(texts) // 2, "\n\n".join(found)[:LONG])
    return tuple(texts)


def first_sentence(text: str) -> str:
    """The text up to its first full stop at a line's or sentence's end, on one line."""
    first = re.split(r"(?<=[.!?])\s|\n\s*\n", text.strip(), maxsplit=1)[0]
    return " ".join(first.split())
