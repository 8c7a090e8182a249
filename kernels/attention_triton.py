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


def launch(qkv: torch.Tensor, layout: Layout, out: torch.Tensor) -> None:
    """Fill `out`: see `attention.attention`."""
    _, _, heads, head_dim = qkv.shape
    size = step(head_dim, qkv.dtype)
    _attention[(len(layout.blocks), heads)](
        qkv, out, layout.cu_seqlens, layout.blocks, layout.capacity, heads, head_dim**-0.5 * LOG2_E,
        D=head_dim, BLOCK_M=BLOCK, BLOCK_N=size.keys, PRECISION=precision(qkv.dtype),
        num_warps=size.warps, num_stages=size.stages,
    )  # fmt: skip


def launch_first(q: torch.Tensor, kv: torch.Tensor, layout: Layout, out: torch.Tensor) -> None:
    """Fill `out`: see `attention.first_attention`."""
    _, heads, head_dim = q.shape
    _first[(layout.sequences, heads)](
        q, kv, out, layout.cu_seqlens, heads, head_dim**-0.5 * LOG2_E, D=head_dim, BLOCK_N=64, num_warps=4
    )


def precision(dtype: torch.dtype) -> str:
    """How `tl.dot` multiplies float32: exactly, since float32 is asked for where parity counts and not speed."""
    return "ieee" if dtype == torch.float32 else "tf32"


@triton.jit
def _attention(
    qkv_ptr, out_ptr, cu_ptr, blocks_ptr, capacity, heads, scale_log2,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    block, head = tl.program_id(0), tl.program_id(1)
    sequence = tl.load(blocks_ptr + 2 * block)
    token = tl.load(blocks_ptr + 2 * block + 1) + tl.arange(0, BLOCK_M)
    dim = tl.arange(0, D)
    out_ptrs = out_ptr + token.to(tl.int64)[:, None] * heads * D + head * D + dim[None, :]
    if sequence < 0:
        tl.store(out_ptrs, tl.zeros([BLOCK_M, D], out_ptr.dtype.element_ty), mask=token[:, None] < capacity)
    else:
        start = tl.load(cu_ptr + sequence)
        length = tl.load(cu_ptr + sequence + 1) - start
        place = token - start
        token_stride = 3 * heads * D
        q_ptr = qkv_ptr + start.to(tl.int64) * token_stride + head * D
        k_ptr, v_ptr = q_ptr + heads * D, q_ptr + 2 * heads * D
        q = tl.load(q_ptr + place[:, None] * token_stride + dim[None, :], mask=place[:, None] < length, other=0.0)
        best = tl.full([BLOCK_M], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_M], tl.float32)
        read = tl.zeros([BLOCK_M, D], tl.float32)
        for begin in range(0, length, BLOCK_N):
            key = begin + tl.arange(0, BLOCK_N)
            k = tl.load(k_ptr + key[None, :] * token_stride + dim[:, None], mask=key[None, :] < length, other=0.0)
            score = tl.dot(q, k, input_precision=PRECISION)
            score = tl.where(key[None, :] < length, score, float("-inf"))
            new_best = tl.maximum(best, tl.max(score, 1) * scale_log2)
            weight = tl.exp2(score * scale_log2 - new_best[:, None])  # one multiply-add a score
            shrink = tl.exp2(best - new_best)
            total = total * shrink + tl.sum(weight, 1)
            v = tl.load(v_ptr + key[:, None] * token_stride + dim[None, :], mask=key[:, None] < length, other=0.0)
            read = tl.dot(weight.to(v.dtype), v, read * shrink[:, None], input_precision=PRECISION)
            best = new_best
        tl.store(out_ptrs, (read / total[:, None]).to(out_ptr.dtype.element_ty), mask=place[:, None] < length)


@triton.jit
def _first(q_ptr, kv_ptr, out_ptr, cu_ptr, heads, scale_log2, D: tl.constexpr, BLOCK_N: tl.constexpr):
    sequence, head = tl.program_id(0), tl.program_id(1)
    dim = tl.arange(0, D)
    start = tl.load(cu_ptr + sequence)
    length = tl.load(cu_ptr + sequence + 1) - start
    token_stride = 2 * heads * D
    k_ptr = kv_ptr + start.to(tl.int64) * token_stride + head * D
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
        v = tl.load(at + heads * D, mask=key[:, None] < length, other=0.0).to(tl.float32)
        read = read * shrink + tl.sum(weight[:, None] * v, 0)
        best = new_best
    read = read / tl.maximum(total, 1.0)  # the best key counts 1, and none is left out but in an empty sequence
    tl.store(out_ptr + (sequence * heads + head) * D + dim, read.to(out_ptr.dtype.element_ty))
