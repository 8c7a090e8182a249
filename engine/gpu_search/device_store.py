"""What of a collection lies on the device: vectors and the reranker's token ids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...kernels.pack import TokenRows
from ..collection import Collection
from ..platform.device_errors import translated
from ..platform.npy import Array
from ..text.tokens import cumulative

CHUNK_BYTES = 256 * 2**20
"""Copied at a time: a memory map is read in this much and converted, so the host needs no second copy of everything."""


@dataclass(frozen=True, slots=True)
class Store:
    """`n` passages on a device.

    vectors: float16 [n, d] on CUDA, float32 on a CPU; None where an inverted file of FAISS holds them
    tokens:  ids without special tokens, uint16 or uint32 as in the collection, and int64 offsets
    lengths: mean and standard deviation of a passage's tokens, to guess how large a buffer 100 of them need
    """

    vectors: torch.Tensor | None
    tokens: TokenRows
    lengths: tuple[float, float]

    @classmethod
    def load(cls, collection: Collection, device: str, *, vectors: bool) -> Store:
        """Copy a collection's arrays up. Raises OutOfMemory when they do not fit (the memory plan is asked before)."""
        parts = collection.token_parts()
        uploaded = upload_vectors(collection, device) if vectors else None
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        with translated(f"the tokens of {collection.rows} passages on the device"):
            ids = _upload([part.data for part in parts], None, device)
            tokens = TokenRows(ids, torch.from_numpy(cumulative(lengths)).to(device))
        return cls(uploaded, tokens, (float(lengths.mean()), float(lengths.std())))

    @property
    def nbytes(self) -> int:
        tensors = [self.tokens.ids, self.tokens.offsets, *([] if self.vectors is None else [self.vectors])]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def upload_vectors(collection: Collection, device: str) -> torch.Tensor:
    """The collection's vectors, float16 [n, d] on CUDA, float32 on a CPU."""
    dtype = torch.float16 if device == "cuda" else torch.float32
    with translated(f"the vectors of {collection.rows} passages on the device"):
        return _upload([part.index.vectors for part in collection.index.parts], dtype, device)


def _upload(arrays: Sequence[Array], dtype: torch.dtype | None, device: str) -> torch.Tensor:
    """The memory maps `arrays`, of one kind, end to end on `device`, chunk by chunk, in `dtype` (None: their own)."""
    first = arrays[0]
    kind = dtype or torch.from_numpy(np.empty(0, dtype=first.dtype)).dtype
    target = torch.empty((sum(map(len, arrays)), *first.shape[1:]), dtype=kind, device=device)
    rows = max(1, CHUNK_BYTES // max(1, first.itemsize * math.prod(first.shape[1:])))
    place = 0
    for array in arrays:
        for start in range(0, len(array), rows):
            part = torch.from_numpy(np.array(array[start : start + rows]))
            target[place : place + len(part)].copy_(part)
            place += len(part)
    return target
