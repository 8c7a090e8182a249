"""How long a call takes on a device, and what the device can do at most."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from ..document import said
from .contestants import Call, Contestant

CALLS = 10
"""Calls of one graph, so that its own launch (some 5 µs) counts for little."""
REPLAYS = 20


class Standard(NamedTuple):
    """Work that a device cannot do faster: a call, and the bytes moved or floating point operations of one."""

    run: Contestant
    work: float


def standards(device: torch.device, nbytes: int, size: int) -> dict[str, Callable[[], Standard]]:
    """A copy of `nbytes` (read and written), one read of them, a `size`³ product; each allocates when it is made."""
    dtype = torch.float16 if device.type == "cuda" else torch.float32

    def copy() -> Standard:
        source = torch.randn(nbytes // 4, device=device)
        target = torch.empty_like(source)
        return Standard(Contestant(lambda: target.copy_(source)), 2 * nbytes)

    def read() -> Standard:
        return Standard(Contestant(torch.randn(nbytes // 4, device=device).sum), nbytes)

    def product() -> Standard:
        left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(left)
        return Standard(Contestant(lambda: torch.mm(left, right, out=out)), 2 * size**3)

    return {"copy": copy, "read": read, "product": product}


def measured_peaks(device: torch.device) -> dict[str, float]:
    """`gb_s` of a copy (bytes read and written) and `tflop_s` of a square product, in this run."""
    made = standards(device, *((1 << 30, 8192) if device.type == "cuda" else (1 << 22, 256)))
    copy, product = made["copy"](), made["product"]()
    moved, computed = (each.work / seconds(each.run, device) for each in (copy, product))
    return {"gb_s": moved / 1e9, "tflop_s": computed / 1e12}


def seconds(rival: Contestant, device: torch.device) -> float:
    """Seconds of one call: the median over replays of a CUDA graph of `CALLS` calls, or over calls."""
    for _ in range(3):
        rival.call()
    if device.type == "cpu":
        return statistics.median(_timed_on_cpu(rival.call) for _ in range(5))
    torch.cuda.synchronize()
    if not rival.captured:
        return statistics.median(_timed_on_gpu(rival.call) for _ in range(REPLAYS))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            rival.call()
    graph.replay()
    return statistics.median(_timed_on_gpu(graph.replay) for _ in range(REPLAYS)) / CALLS


def each_of(rivals: Mapping[str, Contestant], device: torch.device) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of each contestant that runs here, and why the others do not."""
    timed: dict[str, float] = {}
    failed: dict[str, str] = {}
    for name, rival in rivals.items():
        try:
            timed[name] = seconds(rival, device)
        except Exception as error:  # one that is missing or fails here is no reason to stop
            failed[name] = said(error)
    return timed, failed


def _timed_on_cpu(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _timed_on_gpu(call: Call) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3
