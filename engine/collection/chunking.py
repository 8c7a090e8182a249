"""Documents into passages: whole where they fit both models, else in runs of whole sentences that overlap a little.

The limit is at most what both models read: the bi-encoder's room for a text (less its passage prompt), and the
cross-encoder's room for a pair less `QUERY_TOKENS`. A longer passage would hold text that one of the models never sees.
By default it is `DEFAULT_TOKENS` at most, whatever the models read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..text.tokenizer import Tokenizer
from .manifest import SHORTEST_CHUNK

QUERY_TOKENS = 64
"""Kept free for the question in a (query, passage) pair: twice what a long question takes."""
DEFAULT_TOKENS = 512
"""Longest passage where none is asked for. A passage of 8,192 tokens takes seconds on a CPU, so that a search of 250 ms
would rerank none; and one vector says little of any part of so long a text."""
# What ends a sentence: its mark, closing quotes and brackets, then white space; or a new line.
SENTENCE_END = re.compile("(?<=[.!?\u2026])[\"'\u201d\u2019)\\]]*\\s+|\\s*\\n\\s*")
# The start of a sentence that is shared must lie within this many characters a token before the chunk.
CHARACTERS_A_TOKEN = 16

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ChunkLimits:
    """`tokens`: longest passage, 0 for no limit; `overlap`: tokens neighbours may share."""

    tokens: int
    overlap: int


def limits(
    chunk_tokens: int | None, overlap: int, encoder: Tokenizer, reranker: Tokenizer | None, prompt: str = ""
) -> ChunkLimits:
    """The limits in force: the given ones, or (None) what both models read, up to DEFAULT_TOKENS.

    Raises InputError when the models leave no room for a passage, or less than was asked for.
    """
    rooms = [encoder.text_room - encoder.count(prompt)]
    if reranker is not None:
        rooms.append(reranker.max_length - reranker.pair_around - QUERY_TOKENS)
    room = min(rooms)
    if chunk_tokens is None:
        chunk_tokens = min(room, DEFAULT_TOKENS)
        if room < SHORTEST_CHUNK:
            raise InputError(f"the models leave {room} tokens for a passage; set chunk_tokens, or export them longer")
    elif chunk_tokens > room:
        raise InputError(
            f"chunk_tokens is {chunk_tokens}, but the models read {room} tokens of a passage beside a question; "
            f"give at most {room}, or 0 to keep documents whole and let the models cut them"
        )
    return ChunkLimits(chunk_tokens, min(overlap, chunk_tokens // 2))


def chunk(text: str, limit: ChunkLimits, count: Callable[[str], int]) -> list[Span]:
    """Character spans of the passages of a `text` that is longer than `limit.tokens`.

    Spans rise, hold at most `limit.tokens` by `count`, and together hold every character that is not white space. One
    starts inside a sentence only where a sentence alone is over the limit; what it shares with its predecessor is whole
    sentences, as many as `limit.overlap` allows and perhaps none.
    """
    import semchunk  # only indexing needs it

    # semchunk's own overlap works by cutting everything into pieces of the overlap's size, through sentences.
    size = limit.tokens - limit.overlap
    pieces: Any = semchunk.chunk(text, size, count, memoize=False, offsets=True)
    spans: list[Span] = [(start, end) for start, end in pieces[1]]
    return [
        (_shared_start(text, spans[place - 1], span, limit, count) if place and limit.overlap else span[0], span[1])
        for place, span in enumerate(spans)
    ]


def _shared_start(text: str, before: Span, span: Span, limit: ChunkLimits, count: Callable[[str], int]) -> int:
    """The earliest sentence of `before` from which `span` can start."""
    start, end = span
    low = max(before[0], start - CHARACTERS_A_TOKEN * limit.overlap)
    chosen = start
    for first in reversed([match.end() for match in SENTENCE_END.finditer(text, low, start)]):
        if first >= start:
            continue
        if count(text[first:start]) > limit.overlap or count(text[first:end]) > limit.tokens:
            break
        chosen = first
    return chosen
