"""What every case of `tandem bench kernels` is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .contestants import Call, Contestant

EPS = 1e-12
Random = Callable[..., torch.Tensor]
"""Makes a tensor of the shape it is given, in the models' dtype on the device."""


@dataclass(frozen=True, slots=True)
class KernelCase:
    """One op at one size. `moved`: bytes that must be read and written; `flops`: of its matrix products."""

    name: str
    ours: Call
    rivals: dict[str, Contestant]
    moved: int
    flops: int = 0
