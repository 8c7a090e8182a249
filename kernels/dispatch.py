"""Which implementation answers: Triton for CUDA tensors, the PyTorch reference for all others.

There is no fallback in between: on a CUDA tensor a Triton that cannot be imported or launched is an error. Whoever
wants the reference on a GPU, a test or a benchmark, calls it by its name.
"""

from __future__ import annotations

import torch

interpreting = False
"""Set by the interpreter tests, in a process started with TRITON_INTERPRET=1: kernels run on CPU tensors then."""


def fused(tensor: torch.Tensor) -> bool:
    """Whether the Triton kernel computes on this tensor.

    Raises ValueError when it lies on another GPU than the current one: Triton launches on that, which may not read it.
    """
    if tensor.is_cuda and tensor.device.index != (current := torch.cuda.current_device()):
        raise ValueError(
            f"the tensors are on {tensor.device} and the current device is cuda:{current}; "
            f"enter torch.cuda.device({tensor.device.index}) first"
        )
    return tensor.is_cuda or interpreting
