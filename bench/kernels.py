"""Each op at a search's sizes: how near it comes to what the machine can move and multiply, and to PyTorch.

Peaks are measured in the same run: a copy of 1 GiB, an 8192³ product. An op's floor is the larger of its bytes over the
copy rate and its FLOPs over the product rate; `share` is floor over time. Calls are captured ten to a CUDA graph and
replayed, as they run in a search, so launches cost what a graph's nodes cost, and what fits the L2 cache is found
there: an op on activations may beat a floor that counts memory traffic. Without a GPU the references run on tiny sizes
to show that everything is in place, and the document says `dry_run`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch

from ..engine.errors import DeviceError
from .environment import card
from .kernel_cases import TINY, WHOLE, Case, cases
from .kernel_rivals import Rival
from .kernel_timing import measured_peaks, seconds
from .kernel_tuning import tried

Progress = Callable[[int, int | None, str], None]


def kernels(
    device: Literal["auto", "cpu", "cuda"] = "auto",
    *,
    only: str = "",
    tune: bool = False,
    progress: Progress = lambda done, total, what: None,
) -> dict[str, Any]:
    """Measure the cases whose name contains `only`; `tune` tries each launch rule's candidates too.

    Raises DeviceError when a GPU is asked for, or needed to tune, and is missing.
    """
    cuda = device != "cpu" and torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise DeviceError("device cuda was asked for, but PyTorch here finds no GPU; use --device cpu for a dry run")
    if tune and not cuda:
        raise DeviceError("launch rules are tuned on a GPU, and PyTorch here finds none; leave out --tune")
    where = torch.device("cuda" if cuda else "cpu")
    peaks = measured_peaks(where)
    results = []
    for case in cases(WHOLE if cuda else TINY, where, torch.float16 if cuda else torch.float32):
        if only in case.name:
            results.append(_result(case, peaks, where) | ({"tried": tried(case, where)} if tune else {}))
            progress(len(results), None, case.name)
    return {
        "benchmark": "kernels",
        "environment": card() | {"gpu": torch.cuda.get_device_name(where) if cuda else None},
        "dry_run": not cuda,
        "peaks": {name: _rounded(value) for name, value in peaks.items()},
        "cases": results,
    }


def compile_report(only: str = "") -> dict[str, Any]:
    """Registers, shared memory, spills and matrix instructions of every kernel on sm_80 and sm_90; needs no GPU."""
    from .kernel_compile import report

    ops = {case.name: case.ours for case in cases(WHOLE, torch.device("meta"), torch.float16) if only in case.name}
    return {"benchmark": "kernels-compile", "environment": card(), "kernels": report(ops)}


def _result(case: Case, peaks: dict[str, float], device: torch.device) -> dict[str, Any]:
    ours = seconds(Rival(case.ours), device)
    moving, multiplying = case.moved / peaks["gb_s"] / 1e9, case.flops / peaks["tflop_s"] / 1e12
    rivals = {name: seconds(rival, device) for name, rival in case.rivals.items()}
    return {
        "case": case.name,
        "us": _rounded(ours * 1e6),
        "gb_s": _rounded(case.moved / ours / 1e9),
        "tflop_s": _rounded(case.flops / ours / 1e12),
        "bound": "memory" if moving >= multiplying else "arithmetic",
        "share": _rounded(max(moving, multiplying) / ours),
        "rivals": {name: {"us": _rounded(t * 1e6), "slower": _rounded(t / ours)} for name, t in rivals.items()},
    }


def _rounded(value: float) -> float:
    """Three significant digits."""
    return float(f"{value:.3g}")
