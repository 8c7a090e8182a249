"""tandem bench kernels: every op against the machine's peaks and PyTorch; --compile: what the compiler made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import typer
from rich.table import Table

from .console import err, note, print_json, progress_bar

NAME = "kernels"


def command(
    compile_only: bool = typer.Option(
        False, "--compile", help="Compile for sm_80 and sm_90 and report; no GPU needed."
    ),
    device: str = typer.Option("auto", help="auto, cpu (a dry run at tiny sizes) or cuda."),
    only: str = typer.Option("", help="Only cases whose name contains this."),
    tune: bool = typer.Option(False, "--tune", help="Also try other launch rules (needs a GPU)."),
    save: Path | None = typer.Option(None, help="Also write the JSON document to this file."),
) -> None:
    """GB/s and TFLOP/s of each op as a share of this machine's measured peaks, and PyTorch in the same run."""
    from ..bench.kernels import compile_report, kernels

    if compile_only:
        document = compile_report(only)
        _show_compiled(document)
    else:
        with progress_bar() as progress:
            document = kernels(_device(device), only=only, tune=tune, progress=progress)
        _show(document)
    print_json(document)
    if save is not None:
        save.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _device(name: str) -> Literal["auto", "cpu", "cuda"]:
    from ..engine.errors import InputError

    for known in ("auto", "cpu", "cuda"):
        if name == known:
            return known
    raise InputError(f"device {name!r} is unknown; choose auto, cpu or cuda")


def _show(document: dict[str, Any]) -> None:
    table = Table("case", "µs", "GB/s", "TFLOP/s", "share of peak", "slower than ours", box=None)
    for case in document["cases"]:
        rivals = ", ".join(f"{name} {rival['slower']:.3g}x" for name, rival in case["rivals"].items())
        share = f"{case['share']:.0%} ({case['bound']})"
        table.add_row(
            case["case"], f"{case['us']:g}", f"{case['gb_s']:g}", f"{case['tflop_s']:g}" if case["tflop_s"] else "",
            share, rivals,
        )  # fmt: skip
    err().print(table)
    for case in document["cases"]:
        for rule, us in sorted(case.get("tried", {}).items(), key=lambda item: item[1]):
            note(f"{case['case']}: {us:.3g} µs with {rule}")
    peaks = document["peaks"]
    note(f"measured peaks: copy {peaks['gb_s']:g} GB/s, matrix product {peaks['tflop_s']:g} TFLOP/s")
    if document["dry_run"]:
        note(
            "dry run: no GPU here, so the PyTorch references ran at tiny sizes; these times say nothing of the kernels"
        )


def _show_compiled(document: dict[str, Any]) -> None:
    table = Table("kernel", "target", "regs", "spill", "KB", "warps", "unit", "case", box=None)
    for row in document["kernels"]:
        table.add_row(
            row["kernel"], f"sm_{row['target']}", str(row["registers"]), str(row["spilled"]),
            f"{row['shared'] / 1024:.1f}", str(row["warps"]), row["tensor_cores"] or "", row["op"],
        )  # fmt: skip
    for column in table.columns[:-1]:
        column.no_wrap = True
    err().print(table)
    note("registers and bytes spilled of a thread, shared memory of a program; compiled ahead of time, not run")
