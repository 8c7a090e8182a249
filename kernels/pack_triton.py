"""Pair packing in two launches: one program works out lengths and block map, then a program a block copies the ids."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .layout import BLOCK
from .layout_triton import chunk, store_blocks, store_tail, warps
from .pack import PairForm, Pairs, TokenRows


def launch(
    queries: TokenRows, store: TokenRows, rows: torch.Tensor, owners: torch.Tensor, form: PairForm, out: Pairs
) -> None:
    """Fill `out`."""
    size, total = chunk(len(rows)), len(out.layout.blocks)
    before, between, behind = form.parts
    sources = (rows, owners, queries.offsets, store.offsets)
    counts = (len(rows), len(queries), len(store), len(out.ids), form.room)
    _lengths[(1,)](
        *sources, out.layout.cu_seqlens, out.layout.blocks, out.needed, *counts, total,
        SPECIAL=before + between + behind, BLOCK=BLOCK, SIZE=size, num_warps=warps(size),
    )  # fmt: skip
    _fill[(total,)](
        *sources, queries.ids, store.ids, form.special, out.layout.cu_seqlens, out.layout.blocks, out.ids, out.segments,
        out.layout.positions, len(out.ids), form.room, *form.text_segments, form.first_position, form.pad_id,
        BEFORE=before, BETWEEN=between, BEHIND=behind, BLOCK=BLOCK, num_warps=2,
    )  # fmt: skip


@triton.jit
def _kept(first, second, room):
    """Lengths kept of two texts: `pack.longest_first`."""
    short = tl.minimum(first, second)
    long = tl.maximum(first, second)
    kept_long = tl.where(short > room, short, tl.maximum(short, room - short))
    over = short + kept_long > room
    kept_short = tl.where(over, room // 2, short)
    kept_long = tl.minimum(tl.where(over, room // 2 + room % 2, kept_long), long)
    swapped = first > second
    return tl.where(swapped, kept_long, kept_short), tl.where(swapped, kept_short, kept_long)


@triton.jit
def _lengths(
    rows_ptr, owners_ptr, query_offsets_ptr, store_offsets_ptr, cu_ptr, blocks_ptr, needed_ptr,
    candidates, queries, passages, capacity, room, total,
    SPECIAL: tl.constexpr, BLOCK: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    wanted_before, used, last = tl.zeros([], tl.int32), tl.zeros([], tl.int32), tl.zeros([], tl.int32)
    for begin in range(0, candidates, SIZE):
        candidate = begin + tl.arange(0, SIZE)
        row = tl.load(rows_ptr + candidate, mask=candidate < candidates, other=-1)
        owner = tl.load(owners_ptr + candidate, mask=candidate < candidates, other=-1)
        real = (row >= 0) & (row < passages) & (owner >= 0) & (owner < queries)
        query_start = tl.load(query_offsets_ptr + owner, mask=real, other=0)
        query_end = tl.load(query_offsets_ptr + owner + 1, mask=real, other=0)
        start = tl.load(store_offsets_ptr + row, mask=real, other=0)
        end = tl.load(store_offsets_ptr + row + 1, mask=real, other=0)
        kept_query, kept_passage = _kept(query_end - query_start, end - start, room)
        wanted = tl.where(real, SPECIAL + kept_query + kept_passage, 0).to(tl.int32)

        ends = wanted_before + tl.cumsum(wanted, 0)
        wanted_before += tl.sum(wanted, 0)
        fits = ends <= capacity
        last = tl.maximum(last, tl.max(tl.where(fits, ends, 0), 0))
        ends = tl.where(fits, ends, last)
        length = tl.where(fits, wanted, 0)
        tl.store(cu_ptr + 1 + candidate, ends, mask=candidate < candidates)
        used = store_blocks(blocks_ptr, used, candidate, ends - length, length, BLOCK)
    tl.store(needed_ptr, wanted_before)
    tl.store(cu_ptr, 0)
    store_tail(blocks_ptr, used, total, last, BLOCK, SIZE)


@triton.jit
def _fill(
    rows_ptr, owners_ptr, query_offsets_ptr, store_offsets_ptr, query_ids_ptr, store_ids_ptr, special_ptr,
    cu_ptr, blocks_ptr, ids_ptr, segments_ptr, positions_ptr,
    capacity, room, query_segment, passage_segment, first_position, pad_id,
    BEFORE: tl.constexpr, BETWEEN: tl.constexpr, BEHIND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    candidate = tl.load(blocks_ptr + 2 * block)
    token = tl.load(blocks_ptr + 2 * block + 1) + tl.arange(0, BLOCK)
    if candidate < 0:
        inside = token < capacity
        tl.store(ids_ptr + token, tl.zeros([BLOCK], tl.int32) + pad_id, mask=inside)
        tl.store(segments_ptr + token, tl.zeros([BLOCK], tl.uint8), mask=inside)
        tl.store(positions_ptr + token, tl.zeros([BLOCK], tl.int32) + first_position, mask=inside)
    else:
        owner = tl.load(owners_ptr + candidate)
        row = tl.load(rows_ptr + candidate)
        query_start = tl.load(query_offsets_ptr + owner)
        start = tl.load(store_offsets_ptr + row)
        query_length = tl.load(query_offsets_ptr + owner + 1) - query_start
        kept_query, kept_passage = _kept(query_length, tl.load(store_offsets_ptr + row + 1) - start, room)

        place = token - tl.load(cu_ptr + candidate)
        inside = token < tl.load(cu_ptr + candidate + 1)
        in_query = place - BEFORE
        in_between = in_query - kept_query
        in_passage = in_between - BETWEEN
        in_behind = in_passage - kept_passage
        is_query = (in_query >= 0) & (in_between < 0)
        is_passage = (in_passage >= 0) & (in_behind < 0)
        is_special = inside & ~is_query & ~is_passage
        # Only one of the three loads at each token; the special tokens' table has three stretches.
        at = tl.where(in_behind >= 0, BEFORE + BETWEEN + in_behind, tl.where(in_query < 0, place, BEFORE + in_between))
        special = tl.load(special_ptr + at, mask=is_special, other=0)
        segment = tl.load(special_ptr + BEFORE + BETWEEN + BEHIND + at, mask=is_special, other=0)
        query = tl.load(query_ids_ptr + query_start + in_query, mask=is_query, other=0)
        passage = tl.load(store_ids_ptr + start + in_passage, mask=is_passage, other=0)
        segment = tl.where(is_query, query_segment, tl.where(is_passage, passage_segment, segment))
        tl.store(ids_ptr + token, special + query + passage.to(tl.int32), mask=inside)
        tl.store(segments_ptr + token, segment.to(tl.uint8), mask=inside)
        tl.store(positions_ptr + token, first_position + place, mask=inside)
