"""`keys.py` in Triton, for kernels that select."""

from __future__ import annotations

import triton
import triton.language as tl

NOTHING = tl.constexpr(-(2**63))


@triton.jit
def encode(score, index):
    """int64 keys of float32 scores (not NaN) and indices (int32 or int64, not negative)."""
    score = tl.where(score == 0, 0.0, score)
    bits = score.to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(tl.int64) << 32) | (0xFFFFFFFF - index.to(tl.int64))


@triton.jit
def score_of(key):
    """float32 scores of int64 keys; -inf for `NOTHING`."""
    ordered = (key >> 32).to(tl.int32)
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return tl.where(key == NOTHING, float("-inf"), bits.to(tl.float32, bitcast=True))


@triton.jit
def index_of(key):
    """int64 indices of int64 keys; -1 for `NOTHING`."""
    return tl.where(key == NOTHING, -1, 0xFFFFFFFF - (key & 0xFFFFFFFF))
