"""tandem merge: fewer segments, and what is deleted taken out."""

from __future__ import annotations

from pathlib import Path

import typer

from .console import note, out, print_json, progress_bar

NAME = "merge"
EXAMPLES = ("tandem merge collection --all",)


def command(
    collection: Path = typer.Argument(help="The folder that `tandem index` made."),
    whole: bool = typer.Option(False, "--all", help="Merge all segments into one, also where it is not due."),
    threads: int | None = typer.Option(None, help="CPU threads (default: one a core)."),
    json_output: bool = typer.Option(False, "--json", help="One JSON line on stdout."),
) -> None:
    """Merge the segments of a collection: each `tandem add` and each changed `tandem index` leaves one more.

    Merges that are due happen by themselves after each change. Nothing is encoded; searches and changes go on
    meanwhile, and a merge that is interrupted leaves the collection as it was.
    """
    from ..engine.collection.merging import merge

    with progress_bar() as progress:
        report = merge(collection, whole=whole, threads=threads, progress=progress)
    if json_output:
        print_json(report.to_dict())
    else:
        out().print(f"{collection}: {report.summary()}")


def merge_due(collection: Path, threads: int | None = None) -> None:
    """After a change: merge what is due, and say so."""
    from ..engine.collection.merging import merge

    with progress_bar() as progress:
        report = merge(collection, threads=threads, progress=progress)
    if report.merges:
        note(f"merged: {report.summary()}")
