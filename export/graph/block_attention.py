"""Attention within a window, in blocks: memory and time in proportion to a text's length.

Each block of queries is as long as the window reaches to a side, so that all it reads lies in its own block of keys and
the two beside it (Beltagy et al. 2020, "Longformer", read windows so).
"""

from __future__ import annotations

import numpy as np

from .attention_node import Attention
from .builder import Builder

NAME = "BlockAttention"
"""What the lowered graph's operators are counted as: they are several."""


def in_blocks(attention: Attention, query: str, key: str, value: str, build: Builder) -> str:
    """[batch, length, heads · width], each block of queries with its own keys and those of the blocks beside it."""
    size, heads, width = _block(attention), attention.heads, attention.width
    length = build.node("Shape", [query], start=2, end=3)
    one = build.constant([1])
    blocks = build.node("Div", [build.node("Add", [length, build.constant([size - 1])]), build.constant([size])])
    missing = build.node("Sub", [build.node("Mul", [blocks, build.constant([size])]), length])
    axis = build.constant([2])
    into = build.node(
        "Concat", [build.constant([0]), build.constant([heads]), blocks, build.constant([size, width])], axis=0
    )
    scaled = build.node("Mul", [query, build.constant(attention.scale, np.float32)])
    padded = build.node("Pad", [scaled, build.node("Concat", [build.constant([0]), missing], axis=0), "", axis])
    queries = build.node("Reshape", [padded, into])
    around = build.node(
        "Concat", [build.constant([size]), build.node("Add", [missing, build.constant([size])])], axis=0
    )
    wider = build.node(
        "Concat",
        [build.constant([0]), build.constant([heads]), build.node("Add", [blocks, build.constant([2])]),
         build.constant([size, width])],
        axis=0,
    )  # fmt: skip

    def beside(name: str) -> str:
        whole = build.node("Reshape", [build.node("Pad", [name, around, "", axis]), wider])
        shifted = [
            build.node(
                "Slice", [whole, build.constant([step]), build.node("Add", [blocks, build.constant([step])]), axis]
            )
            for step in range(3)
        ]
        return build.node("Concat", shifted, axis=3)

    keys = build.node("Transpose", [beside(key)], perm=[0, 1, 2, 4, 3])
    scores = build.node("Add", [build.node("MatMul", [queries, keys]), _block_bias(attention, length, blocks, build)])
    weights = build.node("Softmax", [scores], axis=-1)
    build.nodes[-1].name = f"{attention.node.name}/{NAME}"
    read = build.node("MatMul", [weights, beside(value)])
    rows = build.node("Concat", [build.constant([0]), build.constant([heads]), build.constant([-1, width])], axis=0)
    joined = build.node("Slice", [build.node("Reshape", [read, rows]), build.constant([0]), length, axis, one])
    across = build.node("Transpose", [joined], perm=[0, 2, 1, 3])
    return build.node("Reshape", [across, build.constant([0, 0, heads * width])])


def _block(attention: Attention) -> int:
    """Tokens of a block: so many that what a token reads lies in its own and the two beside it."""
    return max(1, attention.window - 1)


def _block_bias(attention: Attention, length: str, blocks: str, build: Builder) -> str:
    """float32 [blocks, size, 3 · size]: 0 where a query of a block reads a key, and the lowest number elsewhere."""
    size = _block(attention)
    rows, columns = np.arange(size)[:, None] + size, np.arange(3 * size)
    near = build.constant(np.abs(rows - columns)[None] < attention.window, np.bool_)
    zero, step = build.constant(0), build.constant(1)
    starts = build.node(
        "Mul", [build.node("Range", [zero, build.node("Squeeze", [blocks]), step]), build.constant(size)]
    )
    starts = build.node("Unsqueeze", [starts, build.constant([1, 2])])
    places = build.node("Add", [starts, build.constant((columns - size)[None, None])])
    real = build.node(
        "And", [build.node("GreaterOrEqual", [places, build.constant(0)]), build.node("Less", [places, length])]
    )
    lowest = build.constant(np.finfo(np.float32).min, np.float32)
    return build.node("Where", [build.node("And", [near, real]), build.constant(0.0, np.float32), lowest])
