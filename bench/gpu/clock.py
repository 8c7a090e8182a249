"""Times and rates. On a GPU an event pair around each run, or a synchronise; medians of many, never a mean."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

WARM_UP = 10
# torch.compile with CUDA graphs compiles at the first call, warms up at the second, records at the third.
LEAST_WARM_UP = 3
P99_SAMPLES = 200


def wall_ms(run: Callable[[], Any], repeats: int, seconds: float = 12.0) -> dict[str, float | int | None]:
    """`percentiles` of milliseconds as a caller sees them; `run` ends with its result on the host.

    `seconds`: after so many, and three runs, the slow ones are left at what they have.
    """
    run()  # what is compiled or allocated; how long that takes says nothing of the next
    second = _wall(run)
    for _ in range(max(LEAST_WARM_UP, min(WARM_UP, repeats, int(seconds / 4 / max(second / 1e3, 1e-6))))):
        run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < repeats and (len(times) < 3 or time.perf_counter() < end):
        times.append(_wall(run))
    return percentiles(times)


def percentiles(values: Sequence[float]) -> dict[str, float | int | None]:
    """Columns p50, p95, p99 in ms and how many samples; p99 None of fewer than 200, two of which would be it."""
    p50, p95, p99 = (round(value, 4) for value in np.percentile(values, (50, 95, 99)).tolist())
    return {
        "p50 ms": p50, "p95 ms": p95, "p99 ms": p99 if len(values) >= P99_SAMPLES else None, "samples": len(values),
    }  # fmt: skip


def _wall(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3
