"""tandem bench report: saved results → a page."""

from __future__ import annotations

from pathlib import Path

import typer

from .benching import RESULTS_FOLDER
from .console import note, print_json


def command(
    results: Path = RESULTS_FOLDER,
    output: Path = typer.Option(Path("bench") / "RESULTS.md", "--out", help="The report."),
) -> None:
    """Turn saved results into a page with tables and pictures (SVG, beside the results)."""
    from ..bench.report import report

    path = report(results, output)
    note(f"{path} from {results}")
    print_json({"report": str(path), "results": sorted(file.stem for file in results.glob("*.json"))})
