"""The scan's kernels: best score of each group, selection of groups, their rows again, selection of rows."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from .attention_triton import precision
from .keys_triton import NOTHING, encode, index_of, score_of
from .scan import CHUNK, GROUP, Workspace, padded_k

STEP = 64
"""Dimensions of one step of a product."""


class Flow(NamedTuple):
    """Vectors of one program of the stream, and its launch."""

    vectors: int
    warps: int
    stages: int


def flow(queries: int) -> Flow:
    """The launch rule of the stream; not yet tuned on a GPU.

    Four steps in flight are 72 KB of shared memory at up to 16 queries, so that three programs on a multiprocessor keep
    some 150 KB of reads in flight: six times what 3 TB/s at a latency of 1 µs needs.
    """
    return Flow(128, 4, 4)


def launch(
    vectors: torch.Tensor,
    queries: torch.Tensor,
    allowed: torch.Tensor | None,
    scratch: Workspace,
    out: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """Fill `out`: see `scan.scan`."""
    (n, d), count, k = vectors.shape, len(queries), out[0].shape[1]
    kept = padded_k(k)
    words = vectors if allowed is None else allowed
    filtered = 0 if allowed is None else allowed.dim()  # 1: one bitmap, 2: one a query
    common = {"D": d, "STEP": STEP, "GROUP": GROUP, "FILTER": filtered, "PRECISION": precision(vectors.dtype)}
    word_stride, best_stride = -(-n // 32), scratch.best.stride(0)
    size = flow(count)
    _stream[(triton.cdiv(n, size.vectors),)](
        vectors, queries, words, scratch.best, n, count, word_stride, best_stride,
        TILE=size.vectors, QUERIES=max(16, triton.next_power_of_2(count)), **common,
        num_warps=size.warps, num_stages=size.stages,
    )  # fmt: skip
    groups = _select_groups(scratch, -(-n // GROUP), count, kept)
    scored_stride = scratch.scored.stride(0)
    _rescore[(kept, count)](
        vectors, queries, words, groups, scratch.scored, n, word_stride, groups.stride(0), scored_stride,
        **common, num_warps=4, num_stages=4,
    )  # fmt: skip
    keys, width = _reduce(scratch.scored, kept * GROUP, scratch, count, kept)
    size = max(kept, triton.next_power_of_2(width))
    _finish[(count,)](keys, *out, width, keys.stride(0), k, SIZE=size, KEEP=kept, num_warps=_warps(size))


def _select_groups(scratch: Workspace, groups: int, count: int, kept: int) -> torch.Tensor:
    """Keys [count, kept] of the best groups, in one of the workspace's buffers."""
    chunks = triton.cdiv(groups, CHUNK)
    _select[(chunks, count)](
        scratch.best, scratch.one, groups, scratch.best.stride(0), scratch.one.stride(0),
        SIZE=CHUNK, KEEP=kept, SCORES=True, num_warps=_warps(CHUNK),
    )  # fmt: skip
    source, target, width = scratch.one, scratch.other, chunks * kept
    while width > kept:
        chunks = triton.cdiv(width, CHUNK)
        _select[(chunks, count)](
            source, target, width, source.stride(0), target.stride(0),
            SIZE=CHUNK, KEEP=kept, SCORES=False, num_warps=_warps(CHUNK),
        )  # fmt: skip
        source, target, width = target, source, chunks * kept
    return source


def _reduce(keys: torch.Tensor, width: int, scratch: Workspace, count: int, kept: int) -> tuple[torch.Tensor, int]:
    """Select until one program can take what is left: keys [count, width] with width at most `CHUNK`."""
    source, target, spare = keys, scratch.one, scratch.other
    while width > CHUNK:
        chunks = triton.cdiv(width, CHUNK)
        _select[(chunks, count)](
            source, target, width, source.stride(0), target.stride(0),
            SIZE=CHUNK, KEEP=kept, SCORES=False, num_warps=_warps(CHUNK),
        )  # fmt: skip
        source, target, spare, width = target, spare, target, chunks * kept
    return source, width


def _warps(size: int) -> int:
    """Of a selection among `size` keys: 16 keys a thread."""
    return min(4, max(1, size // 512))


@triton.jit
def _permitted(words_ptr, query, row, n, word_stride, FILTER: tl.constexpr):
    """Whether rows (and queries, which broadcast) may be returned: they exist and their bit is set."""
    permitted = row < n
    if FILTER:
        word_ptrs = words_ptr + row // 32
        if FILTER == 2:
            word_ptrs = words_ptr + query.to(tl.int64) * word_stride + row // 32
        word = tl.load(word_ptrs, mask=permitted, other=0)
        permitted = permitted & (((word >> (row % 32)) & 1) == 1)
    return permitted


@triton.jit
def _stream(
    vectors_ptr, queries_ptr, words_ptr, best_ptr, n, count, word_stride, best_stride,
    TILE: tl.constexpr, QUERIES: tl.constexpr,
    D: tl.constexpr, STEP: tl.constexpr, GROUP: tl.constexpr, FILTER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * TILE
    row = first + tl.arange(0, TILE)
    query = tl.arange(0, QUERIES)
    dim = tl.arange(0, STEP)
    vector_ptrs = vectors_ptr + tl.minimum(row, n - 1).to(tl.int64)[:, None] * D + dim[None, :]
    query_ptrs = queries_ptr + tl.minimum(query, count - 1)[None, :] * D + dim[:, None]
    score = tl.zeros([TILE, QUERIES], tl.float32)
    for begin in range(0, D, STEP):
        if D % STEP == 0:
            v, q = tl.load(vector_ptrs), tl.load(query_ptrs).to(vectors_ptr.dtype.element_ty)
        else:
            v = tl.load(vector_ptrs, mask=dim[None, :] < D - begin, other=0.0)
            q = tl.load(query_ptrs, mask=dim[:, None] < D - begin, other=0.0).to(v.dtype)
        score = tl.dot(v, q, score, input_precision=PRECISION)
        vector_ptrs += STEP
        query_ptrs += STEP
    permitted = _permitted(words_ptr, tl.minimum(query, count - 1)[None, :], row[:, None], n, word_stride, FILTER)
    score = tl.where(permitted & (score == score), score, float("-inf"))
    best = tl.max(tl.reshape(score, [TILE // GROUP, GROUP, QUERIES]), 1)
    group = first // GROUP + tl.arange(0, TILE // GROUP)
    inside = (group[:, None] * GROUP < n) & (query[None, :] < count)
    tl.store(best_ptr + query[None, :].to(tl.int64) * best_stride + group[:, None], best, mask=inside)


@triton.jit
def _rescore(
    vectors_ptr, queries_ptr, words_ptr, groups_ptr, scored_ptr, n, word_stride, groups_stride, scored_stride,
    D: tl.constexpr, STEP: tl.constexpr, GROUP: tl.constexpr, FILTER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    rank, query = tl.program_id(0), tl.program_id(1)
    group = index_of(tl.load(groups_ptr + query * groups_stride + rank)).to(tl.int32)
    place = tl.arange(0, GROUP)
    key = tl.full([GROUP], NOTHING, tl.int64)
    if group >= 0:
        row = group * GROUP + place
        dim = tl.arange(0, STEP)
        # The one query sixteen times: the least that a matrix instruction takes, and the same sums as in the stream.
        same = tl.zeros([16], tl.int32) + query
        vector_ptrs = vectors_ptr + tl.minimum(row, n - 1).to(tl.int64)[:, None] * D + dim[None, :]
        query_ptrs = queries_ptr + same[None, :] * D + dim[:, None]
        scores = tl.zeros([GROUP, 16], tl.float32)
        for begin in range(0, D, STEP):
            if D % STEP == 0:
                v, q = tl.load(vector_ptrs), tl.load(query_ptrs).to(vectors_ptr.dtype.element_ty)
            else:
                v = tl.load(vector_ptrs, mask=dim[None, :] < D - begin, other=0.0)
                q = tl.load(query_ptrs, mask=dim[:, None] < D - begin, other=0.0).to(v.dtype)
            scores = tl.dot(v, q, scores, input_precision=PRECISION)
            vector_ptrs += STEP
            query_ptrs += STEP
        score = tl.max(tl.where(scores == scores, scores, float("-inf")), 1)
        permitted = _permitted(words_ptr, query, row, n, word_stride, FILTER)
        key = tl.where(permitted & (score > float("-inf")), encode(score, row), NOTHING)
    tl.store(scored_ptr + query.to(tl.int64) * scored_stride + rank * GROUP + place, key)


@triton.jit
def _select(
    source_ptr, target_ptr, width, source_stride, target_stride,
    SIZE: tl.constexpr, KEEP: tl.constexpr, SCORES: tl.constexpr,
):  # fmt: skip
    chunk, query = tl.program_id(0), tl.program_id(1)
    place = chunk * SIZE + tl.arange(0, SIZE)
    at = source_ptr + query.to(tl.int64) * source_stride + place
    if SCORES:
        score = tl.load(at, mask=place < width, other=float("-inf"))
        key = tl.where(score > float("-inf"), encode(score, place), NOTHING)
    else:
        key = tl.load(at, mask=place < width, other=NOTHING)
    rank = tl.arange(0, KEEP)
    tl.store(target_ptr + query.to(tl.int64) * target_stride + chunk * KEEP + rank, tl.topk(key, KEEP))


@triton.jit
def _finish(
    source_ptr, scores_ptr, rows_ptr, width, source_stride, k, SIZE: tl.constexpr, KEEP: tl.constexpr
):  # fmt: skip
    query = tl.program_id(0)
    place = tl.arange(0, SIZE)
    key = tl.load(source_ptr + query.to(tl.int64) * source_stride + place, mask=place < width, other=NOTHING)
    best = tl.topk(key, KEEP)
    rank = tl.arange(0, KEEP)
    tl.store(scores_ptr + query * k + rank, score_of(best), mask=rank < k)
    tl.store(rows_ptr + query * k + rank, index_of(best), mask=rank < k)
