"""How long vectors are: 1 where they are compared by cosine, and else measured when they are indexed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .exact import Floats

BLOCK = 65_536
"""Vectors measured at a time: 100 MB at 384 dimensions."""


@dataclass(frozen=True, slots=True)
class VectorLengths:
    """longest: of any vector; square: the mean of the lengths' squares."""

    longest: float = 1.0
    square: float = 1.0

    @classmethod
    def of(cls, vectors: Floats) -> VectorLengths:
        """Of `vectors` (float32 [n, d], n >= 1), in one pass over them."""
        longest, total = 0.0, 0.0
        for start in range(0, len(vectors), BLOCK):
            block = vectors[start : start + BLOCK]
            squares = np.einsum("ij,ij->i", block, block, dtype=np.float64)
            longest, total = max(longest, float(squares.max())), total + float(squares.sum())
        return cls(longest**0.5, total / len(vectors))
