"""Queries → their candidates, on the device: encode, exact scan, and the list that came with them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ...kernels.layout import Layout, empty_layout, layout
from ...kernels.scan import scan
from ..models.runtime.cuda_graphs import Input
from ..text.tokens import TokenBatch
from .buffers import Parts
from .candidates import DeviceCandidates, united

Listed = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""int64 and float32 [n, k]: for each query the passages that hold its words, -1 behind them, and how much of the words
each holds (see `LexicalIndex.search`)."""


class RecallStep:
    """Encode up to `queries` queries of together `tokens` tokens, scan for the `k` nearest rows of each, and put those
    that hold its words beside them.

    Places without a query repeat none: their vector is that of nothing, their rows are never read.
    """

    def __init__(self, parts: Parts, queries: int, tokens: int, k: int) -> None:
        device = parts.device
        self._parts = parts
        self._k = k
        self._ids = Input((tokens,), torch.int32, device)
        self._segments = Input((tokens,), torch.uint8, device)
        self._bounds = Input((queries + 1,), torch.int32, device)
        empty = empty_layout(queries, tokens, device)
        self._layout = Layout(self._bounds.tensor, empty.positions, empty.blocks)
        self.vectors = torch.zeros(queries, parts.encoder.shape.width, dtype=torch.float32, device=device)
        self.near = (
            torch.zeros(queries, k, dtype=torch.float32, device=device),
            torch.zeros(queries, k, dtype=torch.int64, device=device),
        )
        """Cosines and rows of the nearest."""
        self.listed = Input((queries, k), torch.int64, device, fill=-1)
        self._shares = Input((queries, k), torch.float32, device)
        self.found = DeviceCandidates.none(queries, k, device)

    def write(self, queries: TokenBatch, listed: Listed | None = None) -> None:
        """Hand over the queries as the encoder reads them, and the passages that hold their words (None: none)."""
        none = np.full((len(queries), self._k), -1), np.zeros((len(queries), self._k), np.float32)
        rows, shares = none if listed is None else listed
        self.listed.write(rows)
        self._shares.write(shares)
        self._ids.write(queries.ids)
        if queries.segments is not None:
            self._segments.write(queries.segments)
        self._bounds.write_bounds(queries.cu_seqlens)

    def encode(self) -> None:
        """Fill `vectors`."""
        encoder = self._parts.encoder
        placed = layout(self._layout.cu_seqlens, self._layout.capacity, out=self._layout)
        buffers = self._parts.buffers(encoder, placed.capacity)
        vectors = encoder.run(self._ids.tensor, self._segments.tensor, placed, buffers, normalize=self._parts.normalize)
        self.vectors.copy_(vectors)

    def scan(self) -> None:
        """Fill `near` by the exact scan."""
        stored = self._parts.store.vectors
        if stored is None:
            raise RuntimeError("the vectors are in FAISS's hands; there is nothing to scan")
        scan(stored, self.vectors, self._k, scratch=self._parts.scratch, out=self.near)

    def unite(self, cosines: torch.Tensor | None = None) -> None:
        """Fill `found`. `cosines`: float32 [queries, k] of those listed, where the vectors are not here."""
        cosine, row = self.near
        if not self._parts.words:
            self.found.take(DeviceCandidates(row, cosine, self.found.words))
            return
        rows = self.listed.tensor
        stored = self._parts.store.vectors
        if cosines is None and stored is not None:
            cosines = (stored[rows.clamp(min=0)].float() * self.vectors[:, None]).sum(-1)
        if cosines is None:
            raise RuntimeError("the vectors are in FAISS's hands; whoever has them gives the cosines")
        self.found.take(united((cosine, row), (rows, self._shares.tensor, cosines), self._parts))
