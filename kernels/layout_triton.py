"""The layout's kernels: one program writes the block map, then one program a block writes the positions."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .layout import BLOCK, Layout


def launch(cu_seqlens: torch.Tensor, first_position: int, out: Layout) -> None:
    """Fill `out` from `cu_seqlens`."""
    size = triton.next_power_of_2(out.sequences)
    total = len(out.blocks)
    _map[(1,)](
        cu_seqlens, out.cu_seqlens, out.blocks, out.sequences, total, BLOCK=BLOCK, SIZE=size, num_warps=warps(size)
    )
    _positions[(total,)](
        out.cu_seqlens, out.blocks, out.positions, out.capacity, first_position, BLOCK=BLOCK, num_warps=1
    )


def warps(size: int) -> int:
    """Of a program that handles `size` sequences at once: 8 of them a thread, 32 warps at most."""
    return min(32, max(1, size // 256))


@triton.jit
def store_blocks(blocks_ptr, total, sequence, start, length, end, BLOCK: tl.constexpr, SIZE: tl.constexpr):
    """Write the block map of `SIZE` sequences (lanes past the last have length 0) whose tokens end at `end`.

    Every sequence writes its blocks one after the other, all sequences at once; what is left is the tail's.
    """
    count = (length + BLOCK - 1) // BLOCK
    first = tl.cumsum(count, 0) - count
    for place in range(tl.max(count, 0)):
        at = blocks_ptr + 2 * (first + place)
        tl.store(at, sequence, mask=place < count)
        tl.store(at + 1, start + place * BLOCK, mask=place < count)
    used = tl.sum(count, 0)
    for offset in range(used, total, SIZE):
        block = offset + tl.arange(0, SIZE)
        at = blocks_ptr + 2 * block
        tl.store(at, tl.full([SIZE], -1, tl.int32), mask=block < total)
        tl.store(at + 1, end + (block - used) * BLOCK, mask=block < total)


@triton.jit
def _map(cu_ptr, out_cu_ptr, blocks_ptr, sequences, total, BLOCK: tl.constexpr, SIZE: tl.constexpr):
    sequence = tl.arange(0, SIZE)
    real = sequence < sequences
    start = tl.load(cu_ptr + sequence, mask=real, other=0)
    stop = tl.load(cu_ptr + sequence + 1, mask=real, other=0)
    end = tl.load(cu_ptr + sequences)
    tl.store(out_cu_ptr + sequence, start, mask=real)
    tl.store(out_cu_ptr + sequences, end)
    store_blocks(blocks_ptr, total, sequence, start, stop - start, end, BLOCK, SIZE)


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
