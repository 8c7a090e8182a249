"""Packed attention against float64, sequence by sequence."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from tandem.kernels.attention import (
    HEAD_DIMS,
    attention,
    attention_reference,
    first_tokens,
    last_tokens,
    single_attention,
    single_attention_reference,
)
from tandem.kernels.layout import Layout, layout

from .conftest import INTERPRETING
from .oracle import assert_as_good, randn

# An empty sequence, single tokens, both sides of a block, primes, the longest, and a tail or none.
LENGTHS = [[0, 5, 0, 64, 1], [65, 127, 3]] if INTERPRETING else [[1], [0, 5, 0, 64, 1], [512, 65, 127, 300, 211]]


def laid_out(lengths: list[int], spare: int, device: torch.device) -> Layout:
    cu_seqlens = torch.tensor([0, *lengths], device=device).cumsum(0).int()
    return layout(cu_seqlens, sum(lengths) + spare)


def exact(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool = False, window: int | None = None
) -> torch.Tensor:
    """softmax(q kᵀ / √d) v in float64; q [m, heads, d], k and v [n, kv_heads, d]; query i is the key i's token."""
    k, v = (part.double().repeat_interleave(q.shape[1] // part.shape[1], 1) for part in (k, v))
    scores = torch.einsum("mhd,nhd->hmn", q.double(), k) / q.shape[-1] ** 0.5
    away = torch.arange(len(q), device=q.device)[:, None] - torch.arange(len(k), device=q.device)[None]
    hidden = (away < 0) & causal | (away.abs() > (len(k) if window is None else window))
    return torch.einsum("hmn,nhd->mhd", scores.masked_fill(hidden, -torch.inf).softmax(-1), v)


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("spare", [0, 70])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_attention(device: torch.device, dtype: torch.dtype, lengths: list[int], spare: int, head_dim: int) -> None:
    compare(device, dtype, lengths, spare, head_dim, heads=2, kv_heads=2)


# What a token sees, with windows below, at and above the blocks of 64 queries and of 32 or 64 keys.
SEEN = [(True, None), (False, 0), (False, 5), (False, 64), (True, 9), (False, 10_000)]


@pytest.mark.parametrize(("causal", "window"), SEEN)
@pytest.mark.parametrize(("head_dim", "heads", "kv_heads"), [(32, 2, 2), (64, 3, 1), (128, 4, 2)])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_what_a_token_sees_and_shared_heads(
    device: torch.device, dtype: torch.dtype, lengths: list[int], head_dim: int, heads: int, kv_heads: int,
    causal: bool, window: int | None,
) -> None:  # fmt: skip
    compare(device, dtype, lengths, 70, head_dim, heads=heads, kv_heads=kv_heads, causal=causal, window=window)


def compare(
    device: torch.device, dtype: torch.dtype, lengths: list[int], spare: int, head_dim: int,
    *, heads: int, kv_heads: int, causal: bool = False, window: int | None = None,
) -> None:  # fmt: skip
    where = laid_out(lengths, spare, device)
    qkv = randn(where.capacity, heads + 2 * kv_heads, head_dim, dtype=dtype, device=device)
    expected = torch.zeros(where.capacity, heads, head_dim, dtype=torch.float64, device=device)
    bounds = where.cu_seqlens.tolist()
    for start, end in pairwise(bounds):
        if end > start:
            q, k, v = qkv[start:end].split([heads, kv_heads, kv_heads], 1)
            expected[start:end] = exact(q, k, v, causal, window)
    read = attention(qkv, where, kv_heads=kv_heads, causal=causal, window=window)
    plain = attention_reference(qkv, where, kv_heads=kv_heads, causal=causal, window=window)
    assert_as_good(read, plain, expected)
    assert (read[sum(lengths) :] == 0).all()


@pytest.mark.parametrize(("head_dim", "heads", "kv_heads"), [(32, 2, 2), (64, 2, 2), (128, 4, 2)])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("end", ["first", "last"])
def test_a_single_token_reads_as_in_full(
    device: torch.device, dtype: torch.dtype, lengths: list[int], head_dim: int, heads: int, kv_heads: int, end: str
) -> None:
    where = laid_out(lengths, 9, device)
    qkv = randn(where.capacity, heads + 2 * kv_heads, head_dim, dtype=dtype, device=device)
    q = (first_tokens if end == "first" else last_tokens)(qkv, where)[:, :heads].contiguous()
    kv = qkv[:, heads:].contiguous()
    read = single_attention(q, kv, where)
    expected = torch.zeros_like(read, dtype=torch.float64)
    bounds = where.cu_seqlens.tolist()
    for sequence, (start, stop) in enumerate(pairwise(bounds)):
        if stop > start:
            at = start if end == "first" else stop - 1
            expected[sequence] = exact(qkv[at : at + 1, :heads], *kv[start:stop].chunk(2, 1))[0]
    assert_as_good(read, single_attention_reference(q, kv, where), expected)
    for sequence, length in enumerate(lengths):
        assert length or (read[sequence] == 0).all()


def test_large_scores_do_not_overflow(device: torch.device, dtype: torch.dtype) -> None:
    where = laid_out([70, 2], 3, device)
    qkv = 30 * randn(where.capacity, 3, 32, dtype=dtype, device=device)
    assert torch.isfinite(attention(qkv, where)).all()
    assert torch.isfinite(single_attention(first_tokens(qkv[:, :1], where), qkv[:, 1:].contiguous(), where)).all()


def test_a_sequence_sees_only_itself(device: torch.device) -> None:
    where = laid_out([40, 30, 20], 30, device)
    qkv = randn(where.capacity, 6, 32, device=device)
    before = attention(qkv, where)
    changed = qkv.clone()
    changed[40:70] = torch.nan
    changed[90:] = torch.nan
    after = attention(changed, where)
    assert torch.equal(before[:40], after[:40])
    assert torch.equal(before[70:90], after[70:90])
    assert (after[90:] == 0).all()


def test_a_wrong_tensor_is_refused(device: torch.device) -> None:
    where = laid_out([40], 0, device)
    with pytest.raises(ValueError, match="head_dim is 24"):
        attention(randn(40, 6, 24, device=device), where)
    with pytest.raises(ValueError, match="3 heads of queries cannot share 2"):
        attention(randn(40, 7, 32, device=device), where, kv_heads=2)
    with pytest.raises(ValueError, match="window is -1"):
        attention(randn(40, 6, 32, device=device), where, window=-1)
    with pytest.raises(ValueError, match=r"layout\.positions has shape \[40\], not \[41\]"):
        attention(randn(41, 6, 32, device=device), where)
    with pytest.raises(ValueError, match="not contiguous"):
        attention(randn(40, 6, 64, device=device)[..., ::2], where)
    with pytest.raises(ValueError, match="kv has shape"):
        single_attention(randn(1, 2, 32, device=device), randn(40, 128, device=device), where)
