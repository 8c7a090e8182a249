"""Rotary positions against the rotation of complex numbers in float64."""

from __future__ import annotations

import pytest
import torch

from tandem.kernels.layout import layout
from tandem.kernels.rope import reference, rope, rope_table

from .conftest import INTERPRETING
from .oracle import assert_as_good, randn

EPS = 1e-6
THETA = 10_000.0
LENGTHS = [[5, 0, 70]] if INTERPRETING else [[1], [5, 0, 700, 64]]


def exact(rows: torch.Tensor, positions: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """The first half of a head as real parts, the second as imaginary ones, each turned by its angle."""
    half = rows.shape[-1] // 2
    rows = rows.double()
    if weights is not None:
        rows = rows / (rows.square().mean(-1, keepdim=True) + EPS).sqrt() * weights.double()
    angles = positions.double()[:, None] / THETA ** (torch.arange(half, device=rows.device).double() / half)
    turned = torch.complex(rows[..., :half], rows[..., half:]) * torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.cat([turned.real, turned.imag], -1)


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize(
    ("head_dim", "heads", "kv_heads", "others"), [(32, 2, 2, 2), (64, 3, 1, 1), (128, 0, 2, 2), (64, 4, 0, 0)]
)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_rope(
    device: torch.device, dtype: torch.dtype, lengths: list[int], head_dim: int, heads: int, kv_heads: int, others: int,
    normed: bool,
) -> None:  # fmt: skip
    cu_seqlens = torch.tensor([0, *lengths], device=device).cumsum(0).int()
    positions = layout(cu_seqlens, sum(lengths) + 9).positions
    rows = randn(len(positions), heads + kv_heads + others, head_dim, dtype=dtype, device=device)
    weights = randn(2, head_dim, seed=1, dtype=dtype, device=device) if normed else None
    table = rope_table(max(lengths), head_dim, THETA, device)
    turned = heads + kv_heads
    each = None
    if weights is not None:
        each = torch.cat([weights[:1].expand(heads, -1), weights[1:].expand(kv_heads, -1)])
    expected = exact(rows[:, :turned], positions, each)
    plain = reference(rows, positions, table, heads, kv_heads, weights=weights, eps=EPS)
    before = rows.clone()
    ours = rope(rows, positions, table, heads, kv_heads, weights=weights, eps=EPS)
    assert ours is rows
    assert_as_good(ours[:, :turned], plain, expected)
    assert torch.equal(ours[:, turned:], before[:, turned:])


def test_a_wrong_tensor_is_refused(device: torch.device) -> None:
    positions, table = torch.arange(4, dtype=torch.int32, device=device), rope_table(4, 32, THETA, device)
    with pytest.raises(ValueError, match="rows have 2 heads of 32; 2 of queries and 1 of keys do not fit"):
        rope(randn(4, 2, 32, device=device), positions, table, 2, 1)
    with pytest.raises(ValueError, match=r"table has shape \[4, 32\], not \[\?, 64\]"):
        rope(randn(4, 3, 64, device=device), positions, table, 1, 1)
    with pytest.raises(ValueError, match=r"positions has shape \[4\], not \[5\]"):
        rope(randn(5, 3, 32, device=device), positions, table, 1, 1)
    with pytest.raises(ValueError, match=r"weights has shape \[1, 32\]"):
        rope(randn(4, 3, 32, device=device), positions, table, 1, 1, weights=randn(1, 32, device=device))
