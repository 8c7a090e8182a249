"""Attention within a window, in blocks: memory and time in proportion to a text's length.

Each block of queries is as long as the window reaches to a side, so that all it reads lies in its own block of keys and
the two beside it (Beltagy et al. 2020, "Longformer", read windows so). The blocks are the batch of one attention.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .attention_node import Attention
from .builder import CONTRIB, Builder

NAME = "BlockAttention"
"""What the operator is counted as, and its name ends with."""


def in_blocks(attention: Attention, flat: Sequence[str], build: Builder, shared: dict[str, str]) -> str:
    """[1, length, heads · width], each block of queries with its own keys and those of the blocks beside it.

    flat: queries, keys and values, each [1, length, heads · width], of a sequence that runs alone; shared: what layers
    of the same window share, by name
    """
    parts = [f"blocks {attention.window} {what}" for what in ("own", "around", "bias", "end")]
    if parts[0] not in shared:
        shared.update(zip(parts, _places(attention, build), strict=True))
    own, around, bias, end = (shared[part] for part in parts)
    rows = [
        build.node("Squeeze", [build.node("Gather", [name, places], axis=1), build.constant([0])])
        for name, places in zip(flat, (own, around, around), strict=True)
    ]
    read = build.node(
        "MultiHeadAttention", [*rows, "", "", bias], domain=CONTRIB, num_heads=attention.heads, scale=attention.scale
    )
    build.nodes[-1].name = f"{attention.node.name}/{NAME}"
    whole = build.node("Reshape", [read, build.constant([1, -1, attention.heads * attention.width])])
    return build.node("Slice", [whole, build.constant([0]), end, build.constant([1])])


def _block(attention: Attention) -> int:
    """Tokens of a block: so many that what a token reads lies in its own and the two beside it."""
    return max(1, attention.window - 1)


def _places(attention: Attention, build: Builder) -> tuple[str, str, str, str]:
    """What each block holds: int64 [blocks, size] the tokens of its queries and [blocks, 3 · size] of its keys, within
    the text; float32 [blocks, 1, size, 3 · size] 0 where a query reads a key, and the lowest number elsewhere; and the
    text's length, int64 [1].
    """
    size = _block(attention)
    end = build.node("Shape", ["input_ids"], start=1, end=2)
    rounded = build.node("Add", [end, build.constant([size - 1])])
    blocks = build.node("Squeeze", [build.node("Div", [rounded, build.constant([size])])])
    numbers = build.node("Range", [build.constant(0), blocks, build.constant(1)])
    starts = build.node("Mul", [numbers, build.constant(size)])
    starts = build.node("Unsqueeze", [starts, build.constant([1])])
    last = build.node("Squeeze", [build.node("Sub", [end, build.constant([1])])])

    def within(places: str) -> str:
        return build.node("Clip", [places, build.constant(0), last])

    own = build.node("Add", [starts, build.constant(np.arange(size)[None])])
    around = build.node("Add", [starts, build.constant(np.arange(-size, 2 * size)[None])])
    inside = build.node("Equal", [around, within(around)])
    rows, columns = np.arange(size)[:, None], np.arange(-size, 2 * size)
    near = build.constant(np.abs(rows - columns)[None, None] < attention.window, np.bool_)
    read = build.node("And", [near, build.node("Unsqueeze", [inside, build.constant([1, 2])])])
    lowest = build.constant(np.finfo(np.float32).min, np.float32)
    bias = build.node("Where", [read, build.constant(0.0, np.float32), lowest])
    return within(own), within(around), bias, end
