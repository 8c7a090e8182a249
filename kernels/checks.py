"""Contracts of the ops, checked before a launch: a kernel given the wrong tensor reads memory that is not its own.

Only what the host knows is looked at (shape, dtype, device, strides), never a value: nothing here waits for the GPU.
"""

from __future__ import annotations

import torch

Floats = (torch.float16, torch.bfloat16, torch.float32)


def check(
    name: str,
    tensor: torch.Tensor,
    shape: tuple[int | None, ...],
    dtypes: tuple[torch.dtype, ...],
    device: torch.device | None = None,
) -> None:
    """Raise ValueError unless `tensor` is contiguous, of `shape` (None: any size), one of `dtypes`, on `device`."""
    actual = tuple(tensor.shape)
    if len(actual) != len(shape) or any(want not in (None, have) for want, have in zip(shape, actual, strict=True)):
        wanted = ", ".join("?" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} has shape {list(actual)}, not [{wanted}]")
    if tensor.dtype not in dtypes:
        raise ValueError(f"{name} is {tensor.dtype}, not {' or '.join(str(dtype) for dtype in dtypes)}")
    if device is not None and tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device}, not on {device} with the others")
    if not tensor.is_contiguous():
        raise ValueError(f"{name} is not contiguous; call .contiguous() where it is made")
