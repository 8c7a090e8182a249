"""Fixed shapes, each captured once as a CUDA graph and replayed for ever: (batch, length) of a padded runtime, and the
tokens of the packed one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Lengths are the powers of two from here and one between each two: padding costs 14 % on average and at most a third.
SHORTEST = 16
# Batch sizes a factor of four apart, since free places are filled with the next shorter sequences.
STEP = 4

# Tokens of the packed runtime's buffers, in which sequences lie one behind the other. Halves of an octave below 8k,
# quarters above, where a full search lies (100 pairs of 128 tokens are 12,800): a fifth of the work at most is tail.
PACKED_TOKENS = (
    64, 128, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 10_240, 12_288, 14_336, 16_384, 20_480, 24_576, 28_672,
    32_768, 40_960, 49_152,
)  # fmt: skip


@dataclass(frozen=True, order=True, slots=True)
class Bucket:
    """A shape that is run: `batch` sequences padded to `length` tokens."""

    length: int
    batch: int

    @property
    def tokens(self) -> int:
        return self.length * self.batch


class Buckets:
    """The shapes of one model."""

    def __init__(self, max_length: int, tokens: int) -> None:
        """`tokens`: the padded size of the largest batch at each length."""
        self.lengths = _lengths(max_length)
        self._batches = {length: _batches(max(1, tokens // length)) for length in self.lengths}

    def largest_first(self) -> list[Bucket]:
        """Every shape, the most memory first: the arena then grows once, and the others find room in it."""
        shapes = [Bucket(length, batch) for length in self.lengths for batch in self._batches[length]]
        return sorted(shapes, key=lambda shape: (-shape.tokens, -shape.length))

    def assign(self, lengths: npt.NDArray[np.int64]) -> list[tuple[npt.NDArray[np.int64], Bucket]]:
        """Which rows run together in which shape: rows int [m] of each, longest first; every row is in exactly one.

        lengths: int [n], none above the model's limit. Rows of one length bucket fill its largest batches; the rest
        take the smallest batch that holds them, whose free places go to the next shorter rows.
        """
        order = np.argsort(-lengths, kind="stable")
        own = np.searchsorted(self.lengths, lengths[order])
        runs: list[tuple[npt.NDArray[np.int64], Bucket]] = []
        start = 0
        while start < len(order):
            length = self.lengths[int(own[start])]
            alike = int(np.count_nonzero(own[start:] == own[start]))
            batch = next((size for size in self._batches[length] if size >= alike), self._batches[length][-1])
            runs.append((order[start : start + batch], Bucket(length, batch)))
            start += batch
        return runs


def _lengths(max_length: int) -> list[int]:
    """16, 24, 32, 48, …, and `max_length`."""
    lengths = []
    power = SHORTEST
    while power < max_length:
        lengths += [power, power + power // 2]
        power *= 2
    return [*(length for length in lengths if length < max_length), max_length]


def _batches(largest: int) -> list[int]:
    """1, 4, 16, … and `largest`."""
    sizes = []
    size = 1
    while size < largest:
        sizes.append(size)
        size *= STEP
    return [*sizes, largest]
