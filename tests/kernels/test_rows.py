"""Ops that work row by row: embedding, norms, feed-forward and pooling, against float64."""

from __future__ import annotations

import pytest
import torch

from tandem.kernels import add_norm as add_norm_op
from tandem.kernels import embed_norm as embed_norm_op
from tandem.kernels import gated as gated_op
from tandem.kernels import linear_gelu as linear_gelu_op
from tandem.kernels import pool as pool_op
from tandem.kernels import pre_norm as pre_norm_op
from tandem.kernels.add_norm import add_norm
from tandem.kernels.embed_norm import embed_norm
from tandem.kernels.gated import Activation, gated
from tandem.kernels.linear_gelu import linear_gelu
from tandem.kernels.pool import pool
from tandem.kernels.pre_norm import pre_norm

from .conftest import INTERPRETING
from .oracle import assert_as_good, randn

ROWS = [37] if INTERPRETING else [1, 37, 1023]
EPS = 1e-12


def normalized(rows: torch.Tensor, weight: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """LayerNorm in float64 by its formula."""
    rows = rows.double()
    centred = rows - rows.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + EPS).sqrt() * weight.double() + beta.double()


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("width", [96] if INTERPRETING else [32, 96, 384])
@pytest.mark.parametrize("with_bias", [True, False])
def test_add_norm(device: torch.device, dtype: torch.dtype, rows: int, width: int, with_bias: bool) -> None:
    x, residual = (randn(rows, width, seed=seed, dtype=dtype, device=device) for seed in (1, 2))
    bias, weight, beta = (randn(width, seed=seed, dtype=dtype, device=device) for seed in (3, 4, 5))
    kept = bias if with_bias else None
    exact = x.double() + residual.double() + (bias.double() if with_bias else 0)
    ours = add_norm(x, residual, kept, weight, beta, EPS)
    plain = add_norm_op.reference(x, residual, kept, weight, beta, EPS)
    # One row is too few numbers to know PyTorch's largest error by: on a GPU, where both sum in an order of their own,
    # it may happen to be small.
    lenient = device.type == "cuda" and dtype == torch.float32 and rows == 1
    assert_as_good(ours, plain, normalized(exact, weight, beta), atol=3e-6 if lenient else 1e-6)
    assert torch.equal(add_norm(x, residual, kept, weight, beta, EPS, out=residual), ours)
    assert torch.equal(residual, ours)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("width", [96, 1100] if INTERPRETING else [32, 96, 768, 1100])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("adding", [True, False])
def test_pre_norm(device: torch.device, dtype: torch.dtype, rows: int, width: int, centred: bool, adding: bool) -> None:
    x, weight = randn(rows, width, seed=1, dtype=dtype, device=device), randn(width, dtype=dtype, device=device)
    residual = 3 + randn(rows, width, seed=2, device=device)  # a mean that only LayerNorm takes away
    summed = residual.double() + (x.double() if adding else 0)
    away = summed - summed.mean(1, keepdim=True) if centred else summed
    exact = away / (away.square().mean(1, keepdim=True) + EPS).sqrt() * weight.double()
    ours, plain = residual.clone(), residual.clone()
    added = x if adding else None
    normed = pre_norm(added, ours, weight, EPS, centred=centred)
    lenient = device.type == "cuda" and dtype == torch.float32 and rows == 1  # as above
    wanted = pre_norm_op.reference(added, plain, weight, EPS, centred=centred)
    assert_as_good(normed, wanted, exact, atol=3e-6 if lenient else 1e-6)
    assert_as_good(ours, plain, summed)
    assert torch.equal(ours, residual) is not adding
    if adding:
        pre_norm(x, residual, weight, EPS, centred=centred, out=x)
        assert torch.equal(x, normed)


@pytest.mark.parametrize("centred", [True, False])
def test_a_residual_beyond_half_precision_is_normed(device: torch.device, centred: bool) -> None:
    x, weight = (torch.full(size, 6e4, dtype=torch.float16, device=device) for size in ((3, 64), (64,)))
    residual, weight = 1e5 * randn(3, 64, device=device), weight / 6e4
    assert torch.isfinite(pre_norm(x, residual, weight, EPS, centred=centred)).all()
    assert (residual.abs() > 65_504).any()


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("activation", ["gelu", "silu"])
@pytest.mark.parametrize("wide", [48, 1100] if INTERPRETING else [48, 1024, 1100])
def test_gated(device: torch.device, dtype: torch.dtype, rows: int, activation: Activation, wide: int) -> None:
    x = 3 * randn(rows, 2 * wide, dtype=dtype, device=device)
    first, second = x.double().chunk(2, 1)
    act = first / 2 * (1 + torch.erf(first / 2**0.5)) if activation == "gelu" else first / (1 + torch.exp(-first))
    assert_as_good(gated(x, activation), gated_op.reference(x, activation), act * second)


def test_large_values_are_gated(device: torch.device) -> None:
    """e⁻ˣ of a large negative number is infinite."""
    x = torch.tensor([[-1e4, 1e4, 0.0, 1.0, 2.0, 3.0]], device=device)
    assert gated(x, "silu").tolist() == [[0.0, 2e4, 0.0]]
    assert gated(x, "gelu").tolist() == [[0.0, 2e4, 0.0]]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("segmented", [True, False])
def test_embed_norm(device: torch.device, dtype: torch.dtype, rows: int, segmented: bool) -> None:
    width = 96
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 50, (rows,), generator=random, dtype=torch.int32).to(device)
    positions = torch.randint(0, 20, (rows,), generator=random, dtype=torch.int32).to(device)
    segments = torch.randint(0, 2, (rows,), generator=random, dtype=torch.uint8).to(device) if segmented else None
    word, position, segment = (
        randn(size, width, seed=size, dtype=dtype, device=device) for size in (50, 20, 2 if segmented else 1)
    )
    weight, beta = (randn(width, seed=seed, dtype=dtype, device=device) for seed in (4, 5))
    args = (ids, positions, segments, word, position, segment, weight, beta, EPS)
    kind = segment[segments.long()] if segments is not None else segment[0]
    exact = word[ids.long()].double() + position[positions.long()].double() + kind.double()
    assert_as_good(embed_norm(*args), embed_norm_op.reference(*args), normalized(exact, weight, beta))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("width", "wide"), [(96, 200), *([] if INTERPRETING else [(32, 64), (384, 1536)])])
def test_linear_gelu(device: torch.device, dtype: torch.dtype, rows: int, width: int, wide: int) -> None:
    x, weight = randn(rows, width, dtype=dtype, device=device), randn(wide, width, seed=1, dtype=dtype, device=device)
    weight = weight / width**0.5
    bias = randn(wide, seed=2, dtype=dtype, device=device)
    product = x.double() @ weight.double().T + bias.double()
    exact = product / 2 * (1 + torch.erf(product / 2**0.5))
    assert_as_good(linear_gelu(x, weight, bias), linear_gelu_op.reference(x, weight, bias), exact)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("lengths", [[0, 5, 0, 64, 1, 20]] if INTERPRETING else [[1], [0, 5, 0, 64, 1, 200]], ids=str)
def test_pool(device: torch.device, dtype: torch.dtype, lengths: list[int], normalize: bool) -> None:
    capacity = sum(lengths) + 7
    hidden = randn(capacity, 96, dtype=dtype, device=device)
    cu_seqlens = torch.tensor([0, *lengths], device=device).cumsum(0).int()
    exact = torch.zeros(len(lengths), 96, dtype=torch.float64, device=device)
    for row, (start, length) in enumerate(zip(cu_seqlens.tolist(), lengths, strict=False)):
        part = hidden[start : start + length].double()
        if length:
            exact[row] = part.mean(0)
            exact[row] /= exact[row].norm() if normalize else 1
    ours = pool(hidden, cu_seqlens, normalize=normalize)
    plain = pool_op.reference(hidden, cu_seqlens, normalize=normalize)
    assert_as_good(ours, plain, exact, atol=1e-6)


def test_a_vector_of_zeros_stays_finite(device: torch.device) -> None:
    hidden = torch.zeros(4, 32, device=device)
    cu_seqlens = torch.tensor([0, 3, 4], dtype=torch.int32, device=device)
    assert (pool(hidden, cu_seqlens, normalize=True) == 0).all()


def test_a_wrong_tensor_is_refused(device: torch.device) -> None:
    x, vector = randn(4, 32, device=device), randn(32, device=device)
    with pytest.raises(ValueError, match=r"residual has shape \[3, 32\], not \[4, 32\]"):
        add_norm(x, x[:3], None, vector, vector, EPS)
    with pytest.raises(ValueError, match=r"bias is torch\.float16"):
        linear_gelu(x, randn(8, 32, device=device), randn(8, dtype=torch.float16, device=device))
    with pytest.raises(ValueError, match="weight is not contiguous"):
        linear_gelu(x, randn(32, 8, device=device).T, randn(8, device=device))
    with pytest.raises(ValueError, match=r"cu_seqlens is torch\.int64"):
        pool(x, torch.tensor([0, 4], device=device), normalize=True)
    with pytest.raises(ValueError, match=r"residual is torch\.float16"):
        pre_norm(None, x.half(), vector.half(), EPS, centred=True)
    with pytest.raises(ValueError, match="x has 31 columns"):
        gated(randn(4, 31, device=device), "gelu")
