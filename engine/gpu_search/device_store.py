"""What of a collection lies on the device: vectors and the reranker's token ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...kernels.pack import TokenRows
from ..collection import Collection
from ..platform.device_errors import translated

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
        ids, offsets = collection.token_arrays()
        uploaded = upload_vectors(collection, device) if vectors else None
        with translated(f"the tokens of {len(collection)} passages on the device"):
            tokens = TokenRows(_upload(ids, None, device), torch.from_numpy(np.array(offsets)).to(device))
        lengths = np.diff(offsets)
        return cls(uploaded, tokens, (float(lengths.mean()), float(lengths.std())))

    @property
    def nbytes(self) -> int:
        tensors = [self.tokens.ids, self.tokens.offsets, *([] if self.vectors is None else [self.vectors])]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def upload_vectors(collection: Collection, device: str) -> torch.Tensor:
    """The collection's vectors, float16 [n, d] on CUDA, float32 on a CPU."""
    dtype = torch.float16 if device == "cuda" else torch.float32
    with translated(f"the vectors of {len(collection)} passages on the device"):
        return _upload(collection.index.vectors, dtype, device)


def _upload(array: Any, dtype: torch.dtype | None, device: str) -> torch.Tensor:
    """The memory map `array` on `device`, chunk by chunk, in `dtype` (None: its own)."""
    kind = dtype or torch.from_numpy(np.empty(0, dtype=array.dtype)).dtype
    target = torch.empty(array.shape, dtype=kind, device=device)
    rows = max(1, CHUNK_BYTES // max(1, array.itemsize * (array[0].size if len(array) else 1)))
    for start in range(0, len(array), rows):
        target[start : start + rows].copy_(torch.from_numpy(np.array(array[start : start + rows])))
    return target
