"""tandem bench kernels: every op against the machine's peaks and PyTorch; --compile: what the compiler made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from .benching import RESULTS_FOLDER, SAVE, finish
from .console import progress_bar


def command(
    compile_only: bool = typer.Option(
        False, "--compile", help="Compile for sm_80 and sm_90 and report; no GPU needed."
    ),
    device: str = typer.Option("auto", help="auto, cpu (a dry run at tiny sizes) or cuda."),
    only: str = typer.Option("", help="Only cases whose name contains this."),
    tune: bool = typer.Option(False, "--tune", help="Also try other launch rules (needs a GPU)."),
    save: bool = SAVE,
    results: Path = RESULTS_FOLDER,
) -> None:
    """GB/s and TFLOP/s of each op as a share of this machine's measured peaks, and PyTorch in the same run.

    Because a kernel of our own is worth its upkeep only where it beats PyTorch at a search's sizes.
    """
    from ..bench.kernels.benchmark import compile_report, kernels

    if compile_only:
        finish(compile_report(only), save, results)
        return
    with progress_bar() as progress:
        document = kernels(_device(device), only=only, tune=tune, progress=progress)
    finish(document, save, results, document["workload"]["name"])
    if any(case["us"] is None for case in document["cases"]):
        raise typer.Exit(1)  # a kernel failed: its note says how


def _device(name: str) -> Literal["auto", "cpu", "cuda"]:
    from ..engine.errors import InputError

    for known in ("auto", "cpu", "cuda"):
        if name == known:
            return known
    raise InputError(f"device {name!r} is unknown; choose auto, cpu or cuda")
