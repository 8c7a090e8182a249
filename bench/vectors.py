"""Many vectors that lie as real ones do: spread around a collection's own.

Each is a real vector turned by a random angle, to a cosine of 0.5 to 0.8: where nine of ten passages of SQuAD's dev
set have their nearest neighbour with all-MiniLM-L6-v2 (5th to 95th percentile .49 to .81). Uniform random vectors would
make every index look bad and every neighbour meaningless; copies of real ones would make every index look good.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..engine.platform.npy import ArrayWriter, open_array
from ..engine.recall.index import VECTORS

Floats = npt.NDArray[np.float32]
NEAR, NEAREST = 0.5, 0.8
BLOCK = 65_536


def spread_around(real: Floats, rows: int, folder: Path, seed: int) -> Floats:
    """float32 [rows, d], memory-mapped from `folder`: the real vectors first, then turned ones; the same for a seed."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    writer = ArrayWriter(folder / VECTORS, np.float32, (real.shape[1],))
    try:
        head = np.ascontiguousarray(real[:rows], dtype=np.float32)
        writer.append(head)
        for start in range(len(head), rows, BLOCK):
            count = min(BLOCK, rows - start)
            writer.append(_turned(real[random.integers(0, len(real), count)], random))
        writer.close()
    finally:
        writer.abandon()
    return open_array(folder / VECTORS, np.float32, 2)


def _turned(base: Floats, random: np.random.Generator) -> Floats:
    base = np.asarray(base, dtype=np.float32)
    noise = random.standard_normal(base.shape, dtype=np.float32)
    noise -= np.einsum("ij,ij->i", noise, base)[:, None] * base
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    cosine = random.uniform(NEAR, NEAREST, (len(base), 1)).astype(np.float32)
    return np.asarray(cosine * base + np.sqrt(1 - cosine**2) * noise, dtype=np.float32)
