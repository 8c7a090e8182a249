"""JSON that clients send: how many values it has is counted before any of them is made."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import orjson

from .errors import Failure

# Values of one body. The most that a request within the other limits has: 65,536 token ids, or 2,048 objects of some
# fields. 2.7 million empty lists in 8 MiB, which nothing of ours takes, stopped the event loop for 6.6 s.
MAX_VALUES = 131_072
# A larger body is read in a thread: counting and parsing cost a millisecond a megabyte, and let the event loop turn.
SMALL = 256 * 1024
_QUOTE, _COMMA, _LIST, _OBJECT = b'",[{'


async def parsed(body: bytes) -> Any:
    """The value of a JSON text: no NaN, no lone surrogates, bounded nesting; raises Failure."""
    return _parse(body) if len(body) <= SMALL else await asyncio.to_thread(_parse, body)


def _parse(body: bytes) -> Any:
    if _separators(body) > MAX_VALUES and (count := values_outside_strings(body)) > MAX_VALUES:
        raise Failure("validation", f"the body has {count} values; the limit is {MAX_VALUES}; split the request")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:  # it keeps the whole document
        raise Failure("validation", "the body is not valid JSON") from None


def _separators(body: bytes) -> int:
    """At least as many as there are values; those inside strings count too, which costs nothing to find out."""
    return sum(body.count(sign) for sign in (b",", b"[", b"{"))


def values_outside_strings(body: bytes) -> int:
    """How many list entries, object fields, lists and objects a JSON text has, at most."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    signs = np.frombuffer(body, dtype=np.uint8)
    # Sums of uint8 wrap around and keep what is asked of them: whether the number of quotes before a sign is even.
    outside = np.cumsum(signs == _QUOTE, dtype=np.uint8) % 2 == 0
    return int(np.count_nonzero(outside & ((signs == _COMMA) | (signs == _LIST) | (signs == _OBJECT))))
