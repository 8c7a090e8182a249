"""Exact search over half-precision vectors, without a matrix of scores and without a selection per score.

1. One pass over the vectors computes every score and keeps only the best of each *group* of `GROUP` neighbouring rows:
   a stream at the memory's speed, whose output is 1/GROUP of a score matrix.
2. The k best groups of each query are selected, in chunks and then among the chunks' winners.
3. The rows of those groups are scored again, with the same arithmetic, and the k best of them selected.

This is exact. Order rows by (score, lower row first) and groups by (their best score, lower group first). Were a row r
of the k best outside the k best groups, then k groups would come before r's group, each with a row before r: its best
row has a higher score than r, or the same and, lying in a lower group, a lower number. r would not be among the k best.

A bitmap says which rows may be returned: deletes clear a bit, a filter is the AND of two bitmaps, and as rows are left
out before the selection a filtered search still returns k rows when there are so many.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from . import keys
from .checks import check
from .dispatch import fused

GROUP = 64
"""Rows of one group: step 3 reads 64 k rows a query (6 MB at k = 128, d = 384), step 2 reads n / 64 scores."""
CHUNK = 2048
"""Keys of one selection program."""
MAX_K = 256
MAX_QUERIES = 64
_ROWS = 65_536
"""Vectors multiplied at a time by the reference."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """What `scan` writes between its kernels, for up to `queries` queries over n vectors.

    best: float32 [queries, groups]        the best score of each group, -inf where no row may be returned
    one, other: int64 [queries, …]         keys of the selections, by turns
    scored: int64 [queries, k · GROUP]     keys of the rows of the best groups
    """

    best: torch.Tensor
    one: torch.Tensor
    other: torch.Tensor
    scored: torch.Tensor


def workspace(n: int, queries: int, k: int, device: torch.device | str) -> Workspace:
    """Buffers for searches of `k` rows among `n` vectors."""
    groups, kept = -(-n // GROUP), padded_k(k)
    width = kept * -(-max(groups, kept * GROUP) // CHUNK)
    return Workspace(
        torch.empty(queries, groups, dtype=torch.float32, device=device),
        torch.empty(queries, width, dtype=torch.int64, device=device),
        torch.empty(queries, width, dtype=torch.int64, device=device),
        torch.empty(queries, kept * GROUP, dtype=torch.int64, device=device),
    )


def empty_result(queries: int, k: int, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """Buffers for `scan` to fill: scores float32 and rows int64, [queries, k]."""
    return (
        torch.empty(queries, k, dtype=torch.float32, device=device),
        torch.empty(queries, k, dtype=torch.int64, device=device),
    )


def padded_k(k: int) -> int:
    """The power of two, 16 at least, that a selection for `k` keeps."""
    return max(16, 1 << (k - 1).bit_length())


def bitmap(allowed: torch.Tensor) -> torch.Tensor:
    """int32 [..., ceil(n / 32)] of bool `allowed` [..., n]: bit r % 32 of word r // 32 lets row r be returned."""
    *queries, n = allowed.shape
    bits = torch.nn.functional.pad(allowed, (0, -n % 32)).view(*queries, -1, 32)
    words = (bits.long() << torch.arange(32, device=allowed.device)).sum(-1)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


def scan(
    vectors: torch.Tensor,
    queries: torch.Tensor,
    k: int,
    *,
    allowed: torch.Tensor | None = None,
    scratch: Workspace | None = None,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores float32 [q, k], descending, and rows int64 [q, k] of the largest dot products; ties by lower row.

    vectors: float16 (or float32) [n, d], n below 2³¹
    queries: [q, d] of the same dtype, or float32, which is rounded to it; q at most 64
    k:       1 to 256; where fewer rows may be returned, the rest are row -1 with score -inf
    allowed: int32 [ceil(n / 32)], or [q, ceil(n / 32)] for each query its own: see `bitmap`
    A row whose score is not a number (NaN in its vector) is never returned. Accumulates in float32.
    """
    check("vectors", vectors, (None, None), (torch.float16, torch.float32))
    n, d = vectors.shape
    check("queries", queries, (None, d), (vectors.dtype, torch.float32), vectors.device)
    if not 1 <= k <= MAX_K or not 1 <= len(queries) <= MAX_QUERIES or n < 1:
        raise ValueError(
            f"k is {k}, with {len(queries)} queries over {n} vectors; 1 to {MAX_K}, 1 to {MAX_QUERIES}, >= 1"
        )
    if allowed is not None:
        shape = (-(-n // 32),) if allowed.dim() == 1 else (len(queries), -(-n // 32))
        check("allowed", allowed, shape, (torch.int32,), vectors.device)
    out = out or empty_result(len(queries), k, vectors.device)
    check("out[0]", out[0], (len(queries), k), (torch.float32,), vectors.device)
    check("out[1]", out[1], (len(queries), k), (torch.int64,), vectors.device)
    if fused(vectors):
        from .scan_triton import launch

        scratch = scratch or workspace(n, len(queries), k, vectors.device)
        _check_workspace(scratch, workspace(n, len(queries), k, "meta"), vectors.device)
        # Rounded once here rather than by every program: as float32 they fill shared memory, and fewer programs fit.
        launch(vectors, queries.to(vectors.dtype), allowed, scratch, out)
        return out
    scores, rows = reference(vectors, queries, k, allowed=allowed)
    return out[0].copy_(scores), out[1].copy_(rows)


def _check_workspace(scratch: Workspace, least: Workspace, device: torch.device) -> None:
    """Raise ValueError unless the buffers are at least as large as `least`'s."""
    for name in ("best", "one", "other", "scored"):
        have, want = getattr(scratch, name), getattr(least, name)
        if any(size < needed for size, needed in zip(have.shape, want.shape, strict=True)) or have.device != device:
            raise ValueError(
                f"scratch.{name} is {list(have.shape)} on {have.device}; {list(want.shape)} on {device} needed"
            )


def reference(
    vectors: torch.Tensor, queries: torch.Tensor, k: int, *, allowed: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`scan` in PyTorch: block by block, the best keys so far beside the block's. Products in float32."""
    wide = queries.to(vectors.dtype).float()
    best = torch.full((len(queries), k), keys.NOTHING, device=vectors.device)
    for start in range(0, len(vectors), _ROWS):
        scores = wide @ vectors[start : start + _ROWS].float().T
        rows = torch.arange(start, start + scores.shape[1], device=vectors.device)
        found = keys.encode(scores, rows)
        refused = scores.isnan() | torch.isneginf(scores)
        if allowed is not None:
            refused |= (allowed[..., rows // 32] >> (rows % 32)) & 1 == 0
        found = found.masked_fill(refused, keys.NOTHING)
        best = torch.cat([best, found], dim=1).topk(k, dim=1).values
    return keys.decode(best)
