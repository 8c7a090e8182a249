"""Recall alone over the vectors on the device: for searches that go stage by stage."""

from __future__ import annotations

import numpy as np
import torch

from ...kernels import scan as scanning
from ..errors import InputError
from ..platform.device_errors import translated
from ..recall import RowMask
from ..recall.exact import Floats, Rows
from ..recall.nearest import Nearest


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

    def under(self, allowed: RowMask) -> Nearest:
        """The same among the passages that a filter allows: their bits go up once, with the first search.

        Not here: this is the request's own thread, and a copy to the device may end a capture of the device thread's.
        """
        return _Under(self, allowed, self._stored.device)

    def search(self, queries: Floats, k: int, *, bits: torch.Tensor | None = None) -> tuple[Floats, Rows]:
        """The `k` nearest passages of each query, fewer where there are fewer.

        queries: float32 [m, d]; bits: int32 [ceil(n / 32)], rows that may be returned (see `RowMask.words`; None: all)
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

    def __init__(self, index: DeviceIndex, allowed: RowMask, device: torch.device) -> None:
        self._index = index
        self._allowed = allowed
        self._device = device
        self._bits: torch.Tensor | None = None

    def search(self, queries: Floats, k: int) -> tuple[Floats, Rows]:
        """`DeviceIndex.search` among the allowed passages; no more columns than there are such."""
        if not (k := min(k, self._allowed.count)):
            return np.empty((len(queries), 0), dtype=np.float32), np.empty((len(queries), 0), dtype=np.int64)
        if self._bits is None:
            self._bits = torch.from_numpy(self._allowed.words).to(self._device)
        return self._index.search(queries, k, bits=self._bits)
