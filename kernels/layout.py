"""Where packed sequences lie in a buffer of fixed size.

Sequences are laid end to end without padding; behind the last one the buffer's *tail* is left over. A tail token is an
ordinary token to everything that works token by token, reads the first position's embedding, is attended by nobody and
gets zeros from the attention: it costs little, is never NaN, and no result depends on it.

The attention needs to know which sequence a block of its grid works on. That is the *block map*, a table of fixed size
made on the device: a CUDA graph can be replayed with other lengths, and blocks that are not needed leave at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .checks import check
from .dispatch import fused

MAX_SEQUENCES = 16_384
"""Of one buffer: 64 queries (`scan.MAX_QUERIES`) with 256 candidates each (`scan.MAX_K`)."""
BLOCK = 64
"""Queries of one attention program: one warp group's share of a Hopper matrix instruction."""


@dataclass(frozen=True, slots=True)
class Layout:
    """`n` sequences packed into a buffer of `capacity` tokens.

    cu_seqlens: int32 [n + 1]          sequence i is tokens cu_seqlens[i] to cu_seqlens[i + 1]; the tail lies behind
    positions:  int32 [capacity]       first_position + place in the sequence; first_position in the tail
    blocks:     int32 [max_blocks, 2]  (sequence, first token) of each block of `BLOCK` tokens: blocks of the sequences
                                       in order, then of the tail as sequence -1, then (-1, >= capacity): nothing to do
    """

    cu_seqlens: torch.Tensor
    positions: torch.Tensor
    blocks: torch.Tensor

    @property
    def sequences(self) -> int:
        return len(self.cu_seqlens) - 1

    @property
    def capacity(self) -> int:
        return len(self.positions)


def max_blocks(sequences: int, capacity: int) -> int:
    """Blocks that `sequences` sequences and the tail can need: each may leave one block partly empty."""
    return capacity // BLOCK + sequences + 1


def empty_layout(sequences: int, capacity: int, device: torch.device | str) -> Layout:
    """Buffers for `layout` or `pack` to fill: no sequence has a token, everything is tail."""
    return Layout(
        torch.zeros(sequences + 1, dtype=torch.int32, device=device),
        torch.zeros(capacity, dtype=torch.int32, device=device),
        torch.zeros(max_blocks(sequences, capacity), 2, dtype=torch.int32, device=device),
    )


def layout(cu_seqlens: torch.Tensor, capacity: int, *, first_position: int = 0, out: Layout | None = None) -> Layout:
    """The layout of sequences that are packed already, as a TokenBatch is.

    cu_seqlens: int32 [n + 1], from 0, not descending, the last <= capacity (the caller's duty: no value is read here)
    first_position: position id of a sequence's first token (0 for BERT, pad id + 1 for XLM-R)
    out: filled in place; may share `cu_seqlens`
    """
    check("cu_seqlens", cu_seqlens, (None,), (torch.int32,))
    check_count(len(cu_seqlens) - 1)
    out = out or empty_layout(len(cu_seqlens) - 1, capacity, cu_seqlens.device)
    check_layout(out, len(cu_seqlens) - 1, capacity, cu_seqlens.device)
    if fused(cu_seqlens):
        from .layout_triton import launch

        launch(cu_seqlens, first_position, out)
    else:
        copy_layout(reference(cu_seqlens, capacity, first_position=first_position), out)
    return out


def reference(cu_seqlens: torch.Tensor, capacity: int, *, first_position: int = 0) -> Layout:
    """`layout` in PyTorch."""
    positions = first_position + place_in_sequence(cu_seqlens, capacity)
    return Layout(cu_seqlens, positions.to(torch.int32), block_map(cu_seqlens, capacity))


def sequence_of(cu_seqlens: torch.Tensor, capacity: int) -> torch.Tensor:
    """int64 [capacity]: the sequence of each token, n in the tail."""
    tokens = torch.arange(capacity, dtype=torch.int32, device=cu_seqlens.device)
    return torch.searchsorted(cu_seqlens[1:], tokens, right=True)


def place_in_sequence(cu_seqlens: torch.Tensor, capacity: int) -> torch.Tensor:
    """int64 [capacity]: each token's place in its sequence, 0 in the tail."""
    sequence = sequence_of(cu_seqlens, capacity)
    place = torch.arange(capacity, device=cu_seqlens.device) - cu_seqlens[sequence]
    return torch.where(sequence < len(cu_seqlens) - 1, place, 0)


def block_map(cu_seqlens: torch.Tensor, capacity: int) -> torch.Tensor:
    """int32 [max_blocks, 2]: the block map (see `Layout`)."""
    starts, lengths = cu_seqlens[:-1].long(), torch.diff(cu_seqlens).long()
    ends = torch.cumsum((lengths + BLOCK - 1) // BLOCK, 0)
    block = torch.arange(max_blocks(len(lengths), capacity), device=cu_seqlens.device)
    sequence = torch.searchsorted(ends, block, right=True)
    real = sequence < len(lengths)
    owner = torch.where(real, sequence, 0)
    first = torch.cat([ends.new_zeros(1), ends])[sequence]
    base = torch.where(real, starts[owner], cu_seqlens[-1])
    start = base + (block - first) * BLOCK
    return torch.stack([torch.where(real, sequence, -1), start], dim=1).to(torch.int32)


def check_count(sequences: int) -> None:
    """Raise ValueError unless a buffer takes so many sequences."""
    if not 1 <= sequences <= MAX_SEQUENCES:
        raise ValueError(f"{sequences} sequences; one buffer takes 1 to {MAX_SEQUENCES}")


def check_layout(layout: Layout, sequences: int | None, capacity: int | None, device: torch.device) -> None:
    """Raise ValueError unless the layout's buffers fit each other, `sequences`, `capacity` and `device`."""
    check(
        "layout.cu_seqlens", layout.cu_seqlens, (None if sequences is None else sequences + 1,), (torch.int32,), device
    )
    check("layout.positions", layout.positions, (capacity,), (torch.int32,), device)
    shape = (max_blocks(layout.sequences, layout.capacity), 2)
    check("layout.blocks", layout.blocks, shape, (torch.int32,), device)


def copy_layout(source: Layout, target: Layout) -> None:
    """Fill `target`'s buffers with what `source` holds."""
    target.cu_seqlens.copy_(source.cu_seqlens)
    target.positions.copy_(source.positions)
    target.blocks.copy_(source.blocks)
