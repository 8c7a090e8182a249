"""CUDA graphs: work captured once and replayed, and the tensors through which it is told what to work on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

from ...platform.device_wide import capturing


def captured(forward: Callable[[], Any], pool: Any) -> Callable[[], Any]:
    """`forward` as a CUDA graph, in the memory `pool`; what is returned replays it. Its tensors stay where they are.

    One at a time in the process: a capture begins by waiting for the whole device, which ends another's.
    """
    with capturing:
        side = _side()
        # Compiles kernels and lets cuBLAS choose and allocate, neither of which may happen while capturing.
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                forward()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Another engine of this process may allocate meanwhile: only what this thread does must not.
        with torch.cuda.graph(graph, pool=pool, stream=side, capture_error_mode="thread_local"):
            forward()
        return graph.replay


@cache
def _side() -> Any:
    """The stream of every capture: cuBLAS keeps a workspace (32 MiB on an H100) for each stream it ever ran on."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


class Input:
    """A tensor on the device that the host writes before each run, through a page-locked twin: its address stays.

    Who writes again must have waited for the run before, or the twin changes while it is still being copied.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, fill: int = 0) -> None:
        self.tensor = torch.full(shape, fill, dtype=dtype, device=device)
        self._host = self.tensor if device.type == "cpu" else torch.full(shape, fill, dtype=dtype).pin_memory()
        self._numpy = self._host.numpy()

    def write(self, array: Any) -> None:
        """Queue the copy of `array` (numpy, at most as long) to the beginning of the tensor."""
        count = len(np.asarray(array))
        self._numpy[:count] = array
        if self._host is not self.tensor:
            self.tensor[:count].copy_(self._host[:count], non_blocking=True)

    def write_bounds(self, bounds: Any) -> None:
        """Cumulative lengths, the last of them repeated for the sequences that are not there."""
        known = np.asarray(bounds)
        places = len(self.tensor)
        self.write(np.concatenate([known, np.full(places - len(known), known[-1])]))
