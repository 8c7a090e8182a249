"""How long a call takes on a device, and what the device can do at most."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from ..roofline import Rates
from ..turns import WARM, in_turns
from .contestants import Call, Contestant

CALLS = 10
"""Calls of one graph, so that its own launch (some 5 µs) counts for little."""
REPLAYS = 20


class Standard(NamedTuple):
    """Work that a device cannot do faster: a call, the bytes moved or floating point operations of one, and what a
    million million of these a second are called."""

    run: Contestant
    work: float
    unit: str = "TB/s"


def dtype_on(device: torch.device) -> torch.dtype:
    """What models are computed in."""
    return torch.float32 if device.type == "cpu" else torch.float16


def standards(device: torch.device, nbytes: int, size: int) -> dict[str, Callable[[], Standard]]:
    """A copy of `nbytes` (read and written), one read of them, a `size`³ product; each allocates when it is made."""

    def copy() -> Standard:
        source = torch.randn(nbytes // 4, device=device)
        target = torch.empty_like(source)
        return Standard(Contestant(lambda: target.copy_(source)), 2 * nbytes)

    def read() -> Standard:
        return Standard(Contestant(torch.randn(nbytes // 4, device=device).sum), nbytes)

    def product() -> Standard:
        left, right = (torch.randn(size, size, device=device, dtype=dtype_on(device)) for _ in range(2))
        out = torch.empty_like(left)
        return Standard(Contestant(lambda: torch.mm(left, right, out=out)), 2 * size**3, "TFLOP/s")

    return {"copy": copy, "read": read, "product": product}


def measured_rates(device: torch.device) -> Rates:
    """Of a copy and of a square product, in this run."""
    made = standards(device, *((1 << 30, 8192) if device.type == "cuda" else (1 << 22, 256)))
    copy, product = made["copy"](), made["product"]()
    moved, computed = (each.work / seconds(each.run, device) for each in (copy, product))
    precision = "fp16" if device.type == "cuda" else "fp32"
    return Rates({precision: computed}, moved, {precision: "PyTorch"})


def clock(rival: Contestant, device: torch.device) -> Callable[[int], float]:
    """A turn of `in_turns`: seconds of one call, by replaying a CUDA graph of CALLS of them where one can hold them."""
    run, calls = rival.call, 1

    def turn(number: int) -> float:
        nonlocal run, calls
        if number >= 0:
            return (_timed_on_cpu if device.type == "cpu" else _timed_on_gpu)(run) / calls
        for _ in range(3):
            rival.call()
        if device.type == "cuda":
            torch.cuda.synchronize()
            if rival.captured:
                run, calls = _captured(rival.call), CALLS
                run()
        return 0.0

    return turn


def seconds(rival: Contestant, device: torch.device) -> float:
    """The median of one contestant's turns; raises what it raises."""
    turn = clock(rival, device)
    turn(WARM)
    return statistics.median(turn(number) for number in range(_turns(device)))


def each_of(rivals: Mapping[str, Contestant], device: torch.device) -> tuple[dict[str, float], dict[str, str]]:
    """Median seconds of each contestant that runs here, all in turns, and why the others do not."""
    clocks = {name: clock(rival, device) for name, rival in rivals.items()}
    taken, failed = in_turns(clocks, _turns(device), failing=Exception)
    return {name: statistics.median(each) for name, each in taken.items()}, failed


def _turns(device: torch.device) -> int:
    return 5 if device.type == "cpu" else REPLAYS


def _captured(call: Call) -> Call:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            call()
    return graph.replay


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
