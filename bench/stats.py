"""Medians with their spread: one number of a busy machine is a rumour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Spread = dict[str, float]
P99_SAMPLES = 200


def spread(values: Sequence[float]) -> Spread:
    """Count, quartiles, p95 and p99 of `values`."""
    points = np.percentile(values, (25, 50, 75, 95, 99))
    return {"n": len(values), **{name: significant(float(x)) for name, x in zip(_NAMES, points, strict=True)}}


def percentiles(ms: Sequence[float]) -> dict[str, Any]:
    """Columns p50, p95, p99 in ms and how many samples; p99 None of fewer than 200, two of which would be it."""
    p50, p95, p99 = (round(value, 4) for value in np.percentile(ms, (50, 95, 99)).tolist())
    return {"p50 ms": p50, "p95 ms": p95, "p99 ms": p99 if len(ms) >= P99_SAMPLES else None, "samples": len(ms)}


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> Spread:
    """Spread of theirs over ours, question by question: what both met on a question cancels out."""
    return spread([a / b for a, b in zip(theirs, ours, strict=True)])


def significant(value: float) -> float:
    """Four significant digits, for a document."""
    return float(f"{value:.4g}")


def shown(value: Spread) -> str:
    """`median (quartile–quartile)`."""
    return f"{_short(value['p50'])} ({_short(value['p25'])}–{_short(value['p75'])})"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


_NAMES = ("p25", "p50", "p75", "p95", "p99")
