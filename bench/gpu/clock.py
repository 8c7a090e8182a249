"""Times and rates. On a GPU an event pair around each run, or a synchronise; medians of many, never a mean."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

WARM_UP = 10


def device_ms(run: Callable[[], Any], repeats: int, device: str) -> float:
    """Median milliseconds of one run on the device, with warm caches: launches of a queue that is never empty."""
    import torch

    for _ in range(min(WARM_UP, repeats)):
        run()
    if device == "cpu":
        return float(np.median([_wall(run) for _ in range(repeats)]))
    event: Any = torch.cuda.Event
    starts = [event(enable_timing=True) for _ in range(repeats)]
    ends = [event(enable_timing=True) for _ in range(repeats)]
    torch.cuda.synchronize()
    for start, end in zip(starts, ends, strict=True):
        start.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return float(np.median([start.elapsed_time(end) for start, end in zip(starts, ends, strict=True)]))


def wall_ms(run: Callable[[], Any], repeats: int, seconds: float = 12.0) -> dict[str, float]:
    """p50, p95, p99 of milliseconds as a caller sees them; `run` ends with its result on the host.

    `seconds`: after so many, and three runs, the slow ones are left at what they have.
    """
    first = _wall(run)  # what is compiled, captured or allocated
    for _ in range(min(WARM_UP, repeats, int(seconds / 4 / max(first / 1e3, 1e-6)))):
        run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < repeats and (len(times) < 3 or time.perf_counter() < end):
        times.append(_wall(run))
    return percentiles(times)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99."""
    found = np.percentile(values, (50, 95, 99)).tolist()
    return {name: round(value, 4) for name, value in zip(("p50", "p95", "p99"), found, strict=True)}


def _wall(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3
