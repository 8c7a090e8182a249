"""Queries → their nearest rows, on the device: encode, exact scan."""

from __future__ import annotations

import torch

from ...kernels.layout import Layout, empty_layout, layout
from ...kernels.scan import scan
from ..models.runtime.cuda_graphs import Input
from ..text.tokens import TokenBatch
from .buffers import Parts


class RecallStep:
    """Encode up to `queries` queries of together `tokens` tokens and scan for the `k` nearest rows of each.

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
        self.cosines = torch.zeros(queries, k, dtype=torch.float32, device=device)
        self.rows = torch.zeros(queries, k, dtype=torch.int64, device=device)

    def write(self, queries: TokenBatch) -> None:
        """Hand over the queries as the encoder reads them."""
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
        """Fill `rows` and `cosines` by the exact scan."""
        stored = self._parts.store.vectors
        if stored is None:
            raise RuntimeError("the vectors are in FAISS's hands; there is nothing to scan")
        scan(stored, self.vectors, self._k, scratch=self._parts.scratch, out=(self.cosines, self.rows))
