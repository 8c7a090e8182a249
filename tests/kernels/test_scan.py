"""The scan finds what sorting all scores finds: order, ties, deletes and filters included."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tandem.kernels import dispatch
from tandem.kernels import scan as scan_op
from tandem.kernels.scan import bitmap, scan, workspace

from .conftest import INTERPRETING, captured

N = 700 if INTERPRETING else 70_003
K = 10 if INTERPRETING else 40
on_a_gpu = pytest.mark.parametrize("device", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)


@pytest.fixture(autouse=True)
def small_steps(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small groups in the interpreter, where a selection takes a third of a second whatever its size."""
    if INTERPRETING:
        set_sizes(monkeypatch, GROUP=16, CHUNK=256)


def set_sizes(monkeypatch: pytest.MonkeyPatch, **sizes: int) -> None:
    modules = [scan_op]
    if dispatch.interpreting or torch.cuda.is_available():
        from tandem.kernels import scan_triton

        modules.append(scan_triton)
    for module in modules:
        for name, size in sizes.items():
            monkeypatch.setattr(module, name, size)


def integers(n: int, d: int, seed: int, device: torch.device) -> torch.Tensor:
    """Small whole numbers in half precision: their products are exact, so ties are ties in any order of summation."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-2, 3, (n, d)).astype(np.float16)).to(device)


def sorted_search(
    vectors: torch.Tensor, queries: torch.Tensor, k: int, allowed: torch.Tensor | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Every score in float64, stably sorted; -inf and -1 where fewer than k rows are left."""
    scores = queries.double().cpu().numpy() @ vectors.double().cpu().numpy().T
    scores[np.isnan(scores)] = -np.inf
    if allowed is not None:
        scores[~np.broadcast_to(allowed.cpu().numpy(), scores.shape)] = -np.inf
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, rows, axis=1)
    missing = np.full((len(scores), max(0, k - rows.shape[1])), -1)
    rows = np.concatenate([np.where(np.isneginf(best), -1, rows), missing], axis=1)
    return np.concatenate([best, np.where(missing, -np.inf, 0)], axis=1), rows


def assert_found(found: tuple[torch.Tensor, torch.Tensor], expected: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_array_equal(found[1].cpu(), expected[1])
    np.testing.assert_array_equal(found[0].cpu(), expected[0])


@pytest.mark.parametrize("n", [1, 64, N] if INTERPRETING else [1, 63, 64, 129, N])
@pytest.mark.parametrize(("queries", "k"), [(1, 1), (2, 10), *([] if INTERPRETING else [(1, 100)])])
def test_equals_sorting(device: torch.device, n: int, queries: int, k: int) -> None:
    vectors, asked = integers(n, 32, 1, device), integers(queries, 32, 2, device)
    assert_found(scan(vectors, asked, k), sorted_search(vectors, asked, k))


@pytest.mark.parametrize(
    ("queries", "k", "d"), [(3, 17, 48)] if INTERPRETING else [(17, 20, 48), (64, 256, 384), (5, 128, 64)]
)
def test_many_queries_and_odd_widths(device: torch.device, queries: int, k: int, d: int) -> None:
    vectors, asked = integers(min(N, 9000), d, 3, device), integers(queries, d, 4, device)
    assert_found(scan(vectors, asked, k), sorted_search(vectors, asked, k))


def test_selections_of_several_levels(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    set_sizes(monkeypatch, GROUP=16, CHUNK=64)
    vectors, asked = integers(2100, 32, 10, device), integers(1, 32, 11, device)
    assert_found(scan(vectors, asked, 16), sorted_search(vectors, asked, 16))


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("share", [0.01, 0.7] if INTERPRETING else [0.0, 0.01, 0.7])
def test_only_allowed_rows(device: torch.device, own: bool, share: float) -> None:
    vectors, asked = integers(N, 32, 5, device), integers(2, 32, 6, device)
    random = torch.Generator().manual_seed(0)
    allowed = (torch.rand((2, N) if own else (N,), generator=random) < share).to(device)
    found = scan(vectors, asked, K, allowed=bitmap(allowed))
    assert_found(found, sorted_search(vectors, asked, K, allowed))


def test_real_vectors_score_within_half_precision(device: torch.device) -> None:
    random = np.random.default_rng(7)
    vectors = random.standard_normal((N, 64)).astype(np.float32)
    vectors = torch.from_numpy(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).half().to(device)
    asked = vectors[:3].clone()
    scores, rows = scan(vectors, asked, K)
    exact = asked.double() @ vectors.double().T
    best = exact.sort(dim=1, descending=True).values[:, :K]
    # Hopper's matrix units truncate what they add to an accumulator, where others round.
    atol = 2e-6 if device.type == "cuda" else 1e-6
    torch.testing.assert_close(scores.double(), exact.gather(1, rows), rtol=0, atol=atol)
    torch.testing.assert_close(scores.double(), best, rtol=0, atol=atol)
    assert rows[:, 0].tolist() == [0, 1, 2]
    assert all(len(set(row)) == K for row in rows.tolist())


def test_wide_queries_are_rounded(device: torch.device) -> None:
    vectors = integers(N, 32, 12, device)
    asked = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 32)).astype(np.float32)).to(device)
    wide, narrow = scan(vectors, asked, K), scan(vectors, asked.half(), K)
    assert torch.equal(wide[0], narrow[0])
    assert torch.equal(wide[1], narrow[1])


def test_a_broken_vector_is_never_found(device: torch.device) -> None:
    vectors, asked = integers(80, 32, 8, device)[: 2 * K], integers(2, 32, 9, device)
    vectors[3, 5], vectors[7] = torch.nan, torch.nan
    scores, rows = scan(vectors, asked, 2 * K)
    assert_found((scores, rows), sorted_search(vectors, asked, 2 * K))
    assert (rows[:, -2:] == -1).all()
    assert not ({3, 7} & set(rows.flatten().tolist()))


def test_buffers_are_reused(device: torch.device) -> None:
    vectors, scratch = integers(N, 32, 1, device), workspace(N, 2, K, device)
    out = (torch.empty(2, K, device=device), torch.empty(2, K, dtype=torch.int64, device=device))
    for seed in (2, 3):
        asked = integers(2, 32, seed, device)
        scores, rows = scan(vectors, asked, K, scratch=scratch, out=out)
        assert rows is out[1]
        assert_found((scores, rows), sorted_search(vectors, asked, K))


@on_a_gpu
def test_rows_past_two_thousand_million_numbers(device: torch.device) -> None:
    """3.84e9 numbers, 8 GB: where a row begins does not fit 32 bits. The winner is the last row; before it come the
    first to begin past 2³¹ numbers and the one that reaches over them."""
    n, d = 10_000_000, 384
    if torch.cuda.mem_get_info()[0] < 10 * 10**9:
        pytest.skip("less than 10 GB of GPU memory are free")
    vectors = torch.zeros(n, d, dtype=torch.float16, device=device)
    asked = torch.ones(1, d, dtype=torch.float16, device=device)
    past = -(-(2**31) // d)
    for row, value in ((n - 1, 4), (past, 3), (past - 1, 2), (0, 1)):
        vectors[row] = value
    scores, rows = scan(vectors, asked, 4)
    assert rows.tolist() == [[n - 1, past, past - 1, 0]]
    assert scores.tolist() == [[4.0 * d, 3.0 * d, 2.0 * d, 1.0 * d]]


def test_float32_vectors(device: torch.device) -> None:
    vectors, asked = integers(N, 48, 13, device).float(), integers(2, 48, 14, device).float()
    assert_found(scan(vectors, asked, K), sorted_search(vectors, asked, K))


@on_a_gpu
def test_a_captured_scan_follows_its_bitmap(device: torch.device) -> None:
    """Replayed after the bits, and the query, were changed in place, as deletes and requests change them."""
    vectors, asked = integers(N, 32, 5, device), integers(2, 32, 6, device)
    words, scratch = bitmap(torch.ones(N, dtype=torch.bool, device=device)), workspace(N, 2, K, device)
    replay, found = captured(lambda: scan(vectors, asked, K, allowed=words, scratch=scratch))
    random = torch.Generator().manual_seed(0)
    for seed, share in ((7, 0.5), (8, 0.001), (9, 0.0)):
        allowed = (torch.rand(N, generator=random) < share).to(device)
        words.copy_(bitmap(allowed))
        asked.copy_(integers(2, 32, seed, device))
        replay()
        assert_found((found[0], found[1]), sorted_search(vectors, asked, K, allowed))


def test_bitmap_is_little_endian() -> None:
    allowed = torch.zeros(70, dtype=torch.bool)
    allowed[[0, 31, 32, 69]] = True
    assert bitmap(allowed).tolist() == [1 - 2**31, 1, 1 << 5]
    assert bitmap(allowed[None].expand(2, -1)).shape == (2, 3)


def test_bounds(device: torch.device) -> None:
    vectors = integers(100, 32, 1, device)
    with pytest.raises(ValueError, match="k is 300"):
        scan(vectors, vectors[:1], 300)
    with pytest.raises(ValueError, match="65 queries"):
        scan(vectors, vectors[:65], 3)
    with pytest.raises(ValueError, match=r"allowed has shape \[3\], not \[4\]"):
        scan(vectors, vectors[:1], 3, allowed=torch.zeros(3, dtype=torch.int32, device=device))
