"""Packed attention against float64, sequence by sequence."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from tandem.kernels.attention import (
    HEAD_DIMS,
    attention,
    attention_reference,
    first_attention,
    first_attention_reference,
    first_tokens,
)
from tandem.kernels.layout import Layout, layout

from .conftest import INTERPRETING
from .oracle import assert_as_good, randn

# An empty sequence, single tokens, both sides of a block, primes, the longest, and a tail or none.
LENGTHS = [[0, 5, 0, 64, 1], [65, 127, 3]] if INTERPRETING else [[1], [0, 5, 0, 64, 1], [512, 65, 127, 300, 211]]


def laid_out(lengths: list[int], spare: int, device: torch.device) -> Layout:
    cu_seqlens = torch.tensor([0, *lengths], device=device).cumsum(0).int()
    return layout(cu_seqlens, sum(lengths) + spare)


def exact(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """softmax(q kᵀ / √d) v in float64; q [m, heads, d], k and v [n, heads, d]."""
    scores = torch.einsum("mhd,nhd->hmn", q.double(), k.double()) / q.shape[-1] ** 0.5
    return torch.einsum("hmn,nhd->mhd", scores.softmax(-1), v.double())


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("spare", [0, 70])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_attention(device: torch.device, dtype: torch.dtype, lengths: list[int], spare: int, head_dim: int) -> None:
    where = laid_out(lengths, spare, device)
    qkv = randn(where.capacity, 3, 2, head_dim, dtype=dtype, device=device)
    expected = torch.zeros(where.capacity, 2, head_dim, dtype=torch.float64, device=device)
    bounds = where.cu_seqlens.tolist()
    for start, end in pairwise(bounds):
        expected[start:end] = exact(*qkv[start:end].unbind(1)) if end > start else 0
    read = attention(qkv, where)
    assert_as_good(read, attention_reference(qkv, where), expected)
    assert (read[sum(lengths) :] == 0).all()


@pytest.mark.parametrize("head_dim", [32, 64])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_the_first_token_reads_as_in_full(
    device: torch.device, dtype: torch.dtype, lengths: list[int], head_dim: int
) -> None:
    where = laid_out(lengths, 9, device)
    qkv = randn(where.capacity, 3, 2, head_dim, dtype=dtype, device=device)
    q = first_tokens(qkv[:, 0], where)
    read = first_attention(q, qkv[:, 1:].contiguous(), where)
    expected = torch.zeros_like(read, dtype=torch.float64)
    bounds = where.cu_seqlens.tolist()
    for sequence, (start, end) in enumerate(pairwise(bounds)):
        if end > start:
            expected[sequence] = exact(qkv[start : start + 1, 0], *qkv[start:end, 1:].unbind(1))[0]
    assert_as_good(read, first_attention_reference(q, qkv[:, 1:].contiguous(), where), expected)
    for sequence, length in enumerate(lengths):
        assert length or (read[sequence] == 0).all()


def test_large_scores_do_not_overflow(device: torch.device, dtype: torch.dtype) -> None:
    where = laid_out([70, 2], 3, device)
    qkv = 30 * randn(where.capacity, 3, 1, 32, dtype=dtype, device=device)
    assert torch.isfinite(attention(qkv, where)).all()
    assert torch.isfinite(first_attention(first_tokens(qkv[:, 0], where), qkv[:, 1:].contiguous(), where)).all()


def test_a_sequence_sees_only_itself(device: torch.device) -> None:
    where = laid_out([40, 30, 20], 30, device)
    qkv = randn(where.capacity, 3, 2, 32, device=device)
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
    with pytest.raises(ValueError, match="head_dim 24"):
        attention(randn(40, 3, 2, 24, device=device), where)
    with pytest.raises(ValueError, match=r"layout\.positions has shape \[40\], not \[41\]"):
        attention(randn(41, 3, 2, 32, device=device), where)
    with pytest.raises(ValueError, match="not contiguous"):
        attention(randn(40, 3, 2, 64, device=device)[..., ::2], where)
