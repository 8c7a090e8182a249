"""Windows of passages: what the cross-encoder reads of its best candidates once more.

A logit of a whole passage is an average impression: an answer of ten words among a hundred and fifty moves it little,
and another paragraph of the same article has every topic right. Read alone, the window that answers stands out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..text.tokens import TokenBatch, cumulative, ragged_indices

# Tokens of a window, two to four sentences, of which the next one shares half (bench/LOG.md has others).
SIZE = 64
STRIDE = SIZE // 2
# What the best window counts beside the whole: a half moves more answers down than up where a passage needs its title.
SHARE = 1.0 / 3.0

Lengths = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Windows:
    """Half-overlapping windows of passages longer than one window; the last one ends where its passage ends.

    tokens: w sequences of SIZE ids, without special tokens     owners: int64 [w] the passage each is of, rising
    """

    tokens: TokenBatch
    owners: npt.NDArray[np.int64]

    @classmethod
    def of(cls, passages: TokenBatch, most: int) -> Windows:
        """All windows of the first `most` tokens of `passages` (ids without special tokens), what a model reads; a
        passage of at most SIZE tokens has none: it was read so already."""
        counts = window_counts(passages.lengths, most)
        owners = np.repeat(np.arange(len(passages), dtype=np.int64), counts)
        places = ragged_indices(np.zeros(len(passages), dtype=np.int64), counts)
        last = np.minimum(passages.lengths, most)[owners] - SIZE
        starts = passages.cu_seqlens[owners] + np.minimum(places * STRIDE, last)
        sizes = np.full(len(owners), SIZE, dtype=np.int64)
        return cls(TokenBatch(passages.ids[ragged_indices(starts, sizes)], cumulative(sizes)), owners)

    def of_first(self, passages: int) -> int:
        """Windows of the first `passages`."""
        return int(np.searchsorted(self.owners, passages))

    def complete(self, passages: int, windows: int) -> int:
        """How many of the first of `passages` have all theirs among the first `windows`."""
        return passages if windows >= len(self.owners) else int(self.owners[windows])

    def with_best(self, whole: npt.NDArray[np.float32], logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """float32 [n]: each passage's logit, moved by SHARE of the way to the highest of its windows'; unmoved where it
        has none. The highest alone is MaxP (Dai & Callan 2019).

        whole: float32 [n] logits of the first n passages; logits: float32 of their windows
        """
        best = np.full(len(whole), -np.inf, dtype=np.float32)
        np.maximum.at(best, self.owners[: len(logits)], logits)
        moved: npt.NDArray[np.float32] = whole + np.float32(SHARE) * (np.where(np.isneginf(best), whole, best) - whole)
        return moved


def window_counts(lengths: Lengths, most: int) -> Lengths:
    """int64 [n]: windows of the first `most` tokens of passages of `lengths`."""
    read = np.minimum(lengths, most)
    counts: Lengths = np.where(read > SIZE, 1 - (SIZE - read) // STRIDE, 0)
    return counts


def window_pair(query: int, special: int, most: int) -> int:
    """Tokens of a query of so many with a window, and `special` ones, where a model reads `most`."""
    return min(query + SIZE + special, most)
