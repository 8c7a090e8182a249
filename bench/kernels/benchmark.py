"""Each op at a search's sizes: how near it comes to what the machine can move and multiply, and to PyTorch.

Peaks are measured in the same run: a copy of 1 GiB, an 8192³ product. An op's floor is the larger of its bytes over the
copy rate and its FLOPs over the product rate; `share` is floor over time. Calls are captured ten to a CUDA graph and
replayed, as they run in a search, so launches cost what a graph's nodes cost, and what fits the L2 cache is found
there: an op on activations may beat a floor that counts memory traffic. A rival that no graph can hold (it waits for
the host) is called by itself, and so are we beside it: its ratio is of the two so called. What fails is told, and the
others are measured. Without a GPU the references run on tiny sizes
to show that everything is in place, and the document says `dry_run`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch

from ...engine.collection.report import Progress, silent
from ...engine.errors import DeviceError, InputError
from ..document import Document, Row, Table, document, grid
from ..environment import card
from ..roofline import Rates
from .case import KernelCase
from .cases import TINY, WHOLE, cases
from .contestants import Contestant
from .timing import dtype_on, each_of, measured_rates
from .tuning import OURS, tried

MEASURES = (
    "each kernel's time at a search's sizes as a share of what this machine can move and multiply, beside PyTorch: "
    "a kernel that does not beat PyTorch goes"
)
ALONE = "ours, called by itself"
COMPILED = "what the compiler made of each kernel for A100 and H100: registers, shared memory, spills, matrix units"


def kernels(
    device: Literal["auto", "cpu", "cuda"] = "auto",
    *,
    only: str = "",
    tune: bool = False,
    progress: Progress = silent,
) -> Iterator[Document]:
    """Measure the cases whose name contains `only`; `tune` tries each launch rule's candidates too.

    Gives the document anew after each case; `passed` says whether none of our own kernels failed.

    Raises DeviceError when a GPU is asked for, or needed to tune, and is missing.
    """
    cuda = device != "cpu" and torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise DeviceError("device cuda was asked for, but PyTorch here finds no GPU; use --device cpu for a dry run")
    if tune and not cuda:
        raise DeviceError("launch rules are tuned on a GPU, and PyTorch here finds none; leave out --tune")
    where = torch.device("cuda" if cuda else "cpu")
    rates = measured_rates(where)
    name = torch.cuda.get_device_name(where) if cuda else None
    environment = card() | {"gpu": name}
    peaks = {"gb_s": _rounded(rates.copy / 1e9), "tflop_s": _rounded(max(rates.gemm.values()) / 1e12)}
    results: list[dict[str, Any]] = []
    made = cases(WHOLE if cuda else TINY, where, dtype_on(where))
    while (case := next(made, None)) is not None:
        if only in case.name:
            results.append(measured(case, rates, where, tune=tune))
            progress(len(results), None, case.name)
            yield document(
                "kernels", MEASURES, workload={"name": name or "dry run"}, environment=environment,
                tables=_tables(results, peaks, dry=not cuda), dry_run=not cuda, peaks=peaks, cases=results,
                passed=all(each["us"] is not None for each in results),
            )  # fmt: skip
        del case  # and its tensors, before the next are made
    if not results:
        raise InputError(f"no kernel's case is called {only!r}; without --only all are measured")


def compile_report(only: str = "") -> Document:
    """Registers, shared memory, spills and matrix instructions of every kernel on sm_80 and sm_90; needs no GPU."""
    from .compiled import compiler, report

    ops = {case.name: case.ours for case in cases(WHOLE, torch.device("meta"), torch.float16) if only in case.name}
    compiled = report(ops)
    rows: list[list[Any]] = [
        [row["kernel"], f"sm_{row['target']}", row["registers"], row["spilled"], f"{row['shared'] / 1024:.1f}",
         row["warps"], row["tensor_cores"], row["op"]] for row in compiled
    ]  # fmt: skip
    columns = ["kernel", "target", "regs", "spill", "KB", "warps", "unit", "case"]
    said = "registers and bytes spilled of a thread, shared memory of a program; compiled ahead of time, not run, "
    return document(
        "kernels-compile", COMPILED, workload={"name": "sm_80, sm_90"},
        tables=[Table("Kernels as compiled", columns, rows, [f"{said}by {compiler()}"])], compiler=compiler(),
        kernels=compiled,
    )  # fmt: skip


def measured(case: KernelCase, rates: Rates | None, device: torch.device, *, tune: bool = False) -> dict[str, Any]:
    """A case's time, its shares of the rates and what its rivals take; `us` is None where our own kernel failed."""
    contestants = {OURS: Contestant(case.ours), **case.rivals}
    if not all(rival.captured for rival in case.rivals.values()):
        contestants[ALONE] = Contestant(case.ours, captured=False)
    timed, failed = each_of(contestants, device)
    result: dict[str, Any] = {"case": case.name, "us": None, "rivals": {}, "failed": failed}
    if OURS not in timed:
        return result
    ours = timed.pop(OURS)
    alone = timed.pop(ALONE, ours)
    for name, took in timed.items():
        captured = case.rivals[name].captured
        slower = _rounded(took / (ours if captured else alone))
        result["rivals"][name] = {"us": _rounded(took * 1e6), "slower": slower, "captured": captured}
    speed = {"gb_s": _rounded(case.moved / ours / 1e9), "tflop_s": _rounded(case.flops / ours / 1e12)}
    result |= {"us": _rounded(ours * 1e6), **speed}
    if rates is not None:
        moving, multiplying = case.moved / rates.copy, case.flops / max(rates.gemm.values())
        bound = "memory" if moving >= multiplying else "arithmetic"
        result |= {"bound": bound, "share": _rounded(max(moving, multiplying) / ours)}
    return result | ({"tried": tried(case, device)} if tune else {})


def row_of(result: dict[str, Any]) -> Row:
    """A result as a row for people."""
    slower = [
        f"{name} {rival['slower']:.3g}x" + ("" if rival["captured"] else " (both called by themselves)")
        for name, rival in result["rivals"].items()
    ]
    row = {
        "case": result["case"], "µs": result["us"], "GB/s": result.get("gb_s"), "TFLOP/s": result.get("tflop_s"),
        "share of peak": result.get("share"), "bound": result.get("bound"), "slower than ours": ", ".join(slower),
    }  # fmt: skip
    if absent := ", ".join(f"{name}: {why}" for name, why in result["failed"].items() if name not in (OURS, ALONE)):
        row["not here"] = absent
    if result["us"] is None:
        row["error"] = result["failed"][OURS]
    return row


def _tables(results: list[dict[str, Any]], peaks: dict[str, float], *, dry: bool) -> list[Table]:
    notes = [
        f"measured peaks: copy {peaks['gb_s']:g} GB/s, matrix product {peaks['tflop_s']:g} TFLOP/s",
        "medians; a share is the floor over the time",
        *(f"{case['case']}: {name} is faster" for case in results for name, rival in case["rivals"].items()
          if rival["slower"] < 1 and not dry),
        *(["dry run: no GPU here, so the PyTorch references ran at tiny sizes; these times say nothing of the kernels"]
          if dry else []),
    ]  # fmt: skip
    tried = [[case["case"], rule, us] for case in results
             for rule, us in sorted(case.get("tried", {}).items(), key=lambda item: item[1] or math.inf)]  # fmt: skip
    found = [grid("Kernels", [row_of(result) for result in results], notes)]
    return [*found, Table("Launch rules", ["case", "rule", "µs"], tried)] if tried else found


def _rounded(value: float) -> float:
    """Three significant digits."""
    return float(f"{value:.3g}")
