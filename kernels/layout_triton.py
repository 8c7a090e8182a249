"""The layout's kernels: one program writes the block map, then one program a block writes the positions."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .layout import BLOCK, Layout

CHUNK = 4096
"""Sequences that the one program of the block map takes at a time: with twice as many its registers spill."""


def launch(cu_seqlens: torch.Tensor, first_position: int, out: Layout) -> None:
    """Fill `out` from `cu_seqlens`."""
    size = chunk(out.sequences)
    total = len(out.blocks)
    _map[(1,)](
        cu_seqlens, out.cu_seqlens, out.blocks, out.sequences, total, BLOCK=BLOCK, SIZE=size, num_warps=warps(size)
    )
    _positions[(total,)](
        out.cu_seqlens, out.blocks, out.positions, out.capacity, first_position, BLOCK=BLOCK, num_warps=1
    )


def chunk(sequences: int) -> int:
    """How many of `sequences` a program takes at a time, a power of two."""
    return min(CHUNK, int(triton.next_power_of_2(sequences)))


def warps(size: int) -> int:
    """Of a program that handles `size` sequences at once: 8 of them a thread, 32 warps at most."""
    return min(32, max(1, size // 256))


@triton.jit
def store_blocks(blocks_ptr, used, sequence, start, length, BLOCK: tl.constexpr):
    """Write the blocks of some sequences (lanes past the last have length 0) behind `used` others; how many then are.

    Every sequence writes its blocks one after the other, all sequences at once.
    """
    count = (length + BLOCK - 1) // BLOCK
    first = used + tl.cumsum(count, 0) - count
    for place in range(tl.max(count, 0)):
        at = blocks_ptr + 2 * (first + place)
        tl.store(at, sequence, mask=place < count)
        tl.store(at + 1, start + place * BLOCK, mask=place < count)
    return used + tl.sum(count, 0)


@triton.jit
def store_tail(blocks_ptr, used, total, end, BLOCK: tl.constexpr, SIZE: tl.constexpr):
    """Write the blocks behind the `used` ones of sequences, whose tokens end at `end`: what is left is the tail's."""
    for offset in range(used, total, SIZE):
        block = offset + tl.arange(0, SIZE)
        at = blocks_ptr + 2 * block
        tl.store(at, tl.full([SIZE], -1, tl.int32), mask=block < total)
        tl.store(at + 1, end + (block - used) * BLOCK, mask=block < total)


@triton.jit
def _map(cu_ptr, out_cu_ptr, blocks_ptr, sequences, total, BLOCK: tl.constexpr, SIZE: tl.constexpr):
    end = tl.load(cu_ptr + sequences)
    used = tl.zeros([], tl.int32)
    for begin in range(0, sequences, SIZE):
        sequence = begin + tl.arange(0, SIZE)
        real = sequence < sequences
        start = tl.load(cu_ptr + sequence, mask=real, other=0)
        stop = tl.load(cu_ptr + sequence + 1, mask=real, other=0)
        tl.store(out_cu_ptr + sequence, start, mask=real)
        used = store_blocks(blocks_ptr, used, sequence, start, stop - start, BLOCK)
    tl.store(out_cu_ptr + sequences, end)
    store_tail(blocks_ptr, used, total, end, BLOCK, SIZE)


@triton.jit
def _positions(cu_ptr, blocks_ptr, positions_ptr, capacity, first_position, BLOCK: tl.constexpr):
    block = tl.program_id(0)
    sequence = tl.load(blocks_ptr + 2 * block)
    token = tl.load(blocks_ptr + 2 * block + 1) + tl.arange(0, BLOCK)
    if sequence < 0:
        tl.store(positions_ptr + token, tl.zeros([BLOCK], tl.int32) + first_position, mask=token < capacity)
    else:
        start = tl.load(cu_ptr + sequence)
        end = tl.load(cu_ptr + sequence + 1)
        tl.store(positions_ptr + token, first_position + token - start, mask=token < end)
