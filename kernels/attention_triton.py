"""Packed attention: a program a (block of queries, head), its keys in blocks, softmax renewed on the way."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from .layout import BLOCK, Layout

LOG2_E = 1.4426950408889634


class Step(NamedTuple):
    """Keys of one step, and the launch."""

    keys: int
    warps: int
    stages: int


def step(head_dim: int, dtype: torch.dtype) -> Step:
    """The launch rule; not yet tuned on a GPU.

    Passages of a hundred tokens are two steps of 64 keys; with more, short ones would be masked rather than computed.
    One warp group has the 64 queries of a matrix instruction; 29 KB of shared memory (head_dim 32) leave room for the
    five programs that registers allow on a multiprocessor. Float32, which no tensor core multiplies exactly, has only
    to be right: small steps and two warp groups, whose accumulators nearly fit the registers. A thread spills up to
    16 bytes at a head_dim of 32 and 64, and 720 at 128 (Triton 3.6, sm_90).
    """
    if dtype == torch.float32:
        return Step(32, 8, 1)
    return Step(64, 4, 3) if head_dim <= 64 else Step(32, 4, 2)


def launch(
    qkv: torch.Tensor, layout: Layout, kv_heads: int, causal: bool, window: int | None, out: torch.Tensor
) -> None:
    """Fill `out`: see `attention.attention`."""
    _, heads, head_dim = out.shape
    size = step(head_dim, qkv.dtype)
    _attention[(len(layout.blocks), heads)](
        qkv, out, layout.cu_seqlens, layout.blocks, layout.capacity, heads, kv_heads, heads // kv_heads,
        0 if window is None else window, head_dim**-0.5 * LOG2_E,
        D=head_dim, BLOCK_M=BLOCK, BLOCK_N=size.keys, PRECISION=precision(qkv.dtype),
        CAUSAL=causal, WINDOW=window is not None, num_warps=size.warps, num_stages=size.stages,
    )  # fmt: skip


def launch_single(q: torch.Tensor, kv: torch.Tensor, layout: Layout, out: torch.Tensor) -> None:
    """Fill `out`: see `attention.single_attention`."""
    _, heads, head_dim = q.shape
    kv_heads = kv.shape[1] // 2
    _single[(layout.sequences, heads)](
        q, kv, out, layout.cu_seqlens, heads, kv_heads, heads // kv_heads, head_dim**-0.5 * LOG2_E,
        D=head_dim, BLOCK_N=64, num_warps=4,
    )  # fmt: skip


def precision(dtype: torch.dtype) -> str:
    """How `tl.dot` multiplies float32: exactly, since float32 is asked for where parity counts and not speed."""
    return "ieee" if dtype == torch.float32 else "tf32"


@triton.jit
def _attention(
    qkv_ptr, out_ptr, cu_ptr, blocks_ptr, capacity, heads, kv_heads, group, window, scale_log2,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr,
):  # fmt: skip
    block, head = tl.program_id(0), tl.program_id(1)
    sequence = tl.load(blocks_ptr + 2 * block)
    first = tl.load(blocks_ptr + 2 * block + 1)
    token = first + tl.arange(0, BLOCK_M)
    dim = tl.arange(0, D)
    out_ptrs = out_ptr + token.to(tl.int64)[:, None] * heads * D + head * D + dim[None, :]
    if sequence < 0:
        tl.store(out_ptrs, tl.zeros([BLOCK_M, D], out_ptr.dtype.element_ty), mask=token[:, None] < capacity)
    else:
        start = tl.load(cu_ptr + sequence)
        length = tl.load(cu_ptr + sequence + 1) - start
        place = token - start
        token_stride = (heads + 2 * kv_heads) * D
        base = qkv_ptr + start.to(tl.int64) * token_stride
        k_ptr = base + (heads + head // group) * D
        v_ptr = k_ptr + kv_heads * D
        q_ptrs = base + head * D + place[:, None] * token_stride + dim[None, :]
        q = tl.load(q_ptrs, mask=place[:, None] < length, other=0.0)
        # Finite: a step of a window may hold no key that a query sees, and infinities would leave a NaN.
        best = tl.full([BLOCK_M], -1e30, tl.float32)
        total = tl.zeros([BLOCK_M], tl.float32)
        read = tl.zeros([BLOCK_M, D], tl.float32)
        begin_at, end_at = 0, length
        if WINDOW:
            begin_at = tl.maximum(first - start - window, 0)
            end_at = tl.minimum(end_at, first - start + BLOCK_M + window)
        if CAUSAL:
            end_at = tl.minimum(end_at, first - start + BLOCK_M)
        for begin in range(begin_at, end_at, BLOCK_N):
            key = begin + tl.arange(0, BLOCK_N)
            k = tl.load(k_ptr + key[None, :] * token_stride + dim[:, None], mask=key[None, :] < length, other=0.0)
            score = tl.dot(q, k, input_precision=PRECISION)
            seen = key[None, :] < length
            if CAUSAL:
                seen = key[None, :] <= place[:, None]
            if WINDOW:
                seen = seen & (tl.abs(key[None, :] - place[:, None]) <= window)
            score = tl.where(seen, score, float("-inf"))
            new_best = tl.maximum(best, tl.max(score, 1) * scale_log2)
            weight = tl.exp2(score * scale_log2 - new_best[:, None])  # one multiply-add a score
            shrink = tl.exp2(best - new_best)
            total = total * shrink + tl.sum(weight, 1)
            v = tl.load(v_ptr + key[:, None] * token_stride + dim[None, :], mask=key[:, None] < length, other=0.0)
            read = tl.dot(weight.to(v.dtype), v, read * shrink[:, None], input_precision=PRECISION)
            best = new_best
        tl.store(out_ptrs, (read / total[:, None]).to(out_ptr.dtype.element_ty), mask=place[:, None] < length)


@triton.jit
def _single(
    q_ptr, kv_ptr, out_ptr, cu_ptr, heads, kv_heads, group, scale_log2, D: tl.constexpr, BLOCK_N: tl.constexpr
):  # fmt: skip
    sequence, head = tl.program_id(0), tl.program_id(1)
    dim = tl.arange(0, D)
    start = tl.load(cu_ptr + sequence)
    length = tl.load(cu_ptr + sequence + 1) - start
    token_stride = 2 * kv_heads * D
    k_ptr = kv_ptr + start.to(tl.int64) * token_stride + head // group * D
    q = tl.load(q_ptr + (sequence * heads + head) * D + dim).to(tl.float32)
    best = tl.full([], float("-inf"), tl.float32)
    total = tl.zeros([], tl.float32)
    read = tl.zeros([D], tl.float32)
    for begin in range(0, length, BLOCK_N):
        key = begin + tl.arange(0, BLOCK_N)
        at = k_ptr + key[:, None] * token_stride + dim[None, :]
        k = tl.load(at, mask=key[:, None] < length, other=0.0).to(tl.float32)
        score = tl.where(key < length, tl.sum(k * q[None, :], 1) * scale_log2, float("-inf"))
        new_best = tl.maximum(best, tl.max(score, 0))
        weight = tl.exp2(score - new_best)
        shrink = tl.exp2(best - new_best)
        total = total * shrink + tl.sum(weight, 0)
        v = tl.load(at + kv_heads * D, mask=key[:, None] < length, other=0.0).to(tl.float32)
        read = read * shrink + tl.sum(weight[:, None] * v, 0)
        best = new_best
    read = read / tl.maximum(total, 1.0)  # the best key counts 1, and none is left out but in an empty sequence
    tl.store(out_ptr + (sequence * heads + head) * D + dim, read.to(out_ptr.dtype.element_ty))
