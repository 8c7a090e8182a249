"""Recall alone over the vectors on the device: for searches that go stage by stage."""

from __future__ import annotations

import numpy as np
import torch

from ...kernels import scan as scanning
from ..errors import InputError
from ..recall import Allowed
from ..recall.exact import Floats, Rows
from ..runtime.faults import translated
from ..stages import Nearest


class DeviceIndex:
    """Exact search by the kernels' scan (see `recall.Index.search`); beyond its 256 neighbours by its reference."""

    def __init__(self, stored: torch.Tensor) -> None:
        """`stored`: float16 or float32 [n, d], on the device."""
        self._stored = stored

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def dimension(self) -> int:
        return int(self._stored.shape[1])

    def under(self, allowed: Allowed) -> Nearest:
        """The same among the passages that a filter allows: their bits go up once."""
        bits = torch.from_numpy(allowed.words).to(self._stored.device)
        return _Under(self, bits, allowed.count)

    def search(self, queries: Floats, k: int, *, bits: torch.Tensor | None = None) -> tuple[Floats, Rows]:
        """The `k` nearest passages of each query, fewer where there are fewer.

        queries: float32 [m, d]; bits: int32 [ceil(n / 32)], rows that may be returned (see `Allowed.words`; None: all)
        returns: scores float32 [m, k], descending, ties by row; rows int64 [m, k]; -1 with -inf where too few may be
        """
        if queries.ndim != 2 or queries.shape[1] != self.dimension or not np.isfinite(queries).all():
            raise InputError(f"queries of shape {queries.shape} are not finite vectors of dimension {self.dimension}")
        k = min(k, len(self))
        parts = []
        for start in range(0, len(queries), scanning.MAX_QUERIES):
            some = torch.from_numpy(np.ascontiguousarray(queries[start : start + scanning.MAX_QUERIES]))
            asked = some.to(self._stored.device)
            search = scanning.scan if k <= scanning.MAX_K else scanning.reference
            with translated(f"the scan for {k} neighbours"):
                scores, rows = search(self._stored, asked, k, allowed=bits)
                parts.append((scores.cpu().numpy(), rows.cpu().numpy()))
        if not parts:
            return np.empty((0, k), dtype=np.float32), np.empty((0, k), dtype=np.int64)
        return np.concatenate([scores for scores, _ in parts]), np.concatenate([rows for _, rows in parts])


class _Under:
    """A `DeviceIndex` under one filter."""

    def __init__(self, index: DeviceIndex, bits: torch.Tensor, count: int) -> None:
        self._index = index
        self._bits = bits
        self._count = count

    def search(self, queries: Floats, k: int) -> tuple[Floats, Rows]:
        """`DeviceIndex.search` among the allowed passages; no more columns than there are such."""
        if not (k := min(k, self._count)):
            return np.empty((len(queries), 0), dtype=np.float32), np.empty((len(queries), 0), dtype=np.int64)
        return self._index.search(queries, k, bits=self._bits)
