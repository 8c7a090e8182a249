"""What the sub-commands of `tandem bench` share: common options, and how a document is shown, printed and kept."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.table import Table as RichTable

from ..bench.document import RESULTS, Document, Table, save, tables, text
from .console import err, note, print_json

SEED = typer.Option(0, help="Of every draw and of the order in which systems take turns.")
THREADS = typer.Option(None, min=1, help="CPU threads of every system (default: one a core).")
SAVE = typer.Option(False, "--save", help="Also keep the document in --results, for `tandem bench report`.")
RESULTS_FOLDER = typer.Option(RESULTS, "--results", help="Where --save keeps documents.")


def finish(document: Document, keep: bool, results: Path, *parts: str) -> None:
    """Tables on stderr; with `keep` a file in `results` named by the benchmark and `parts`; last, JSON on stdout."""
    for table in tables(document):
        show(table)
    if keep:
        note(f"kept in {save(document, results, *parts)}")
    print_json(document)


def show(table: Table) -> None:
    """One table for people, on stderr."""
    rich = RichTable(*table.columns, title=table.title, title_justify="left", box=None)
    for row in table.rows:
        rich.add_row(*map(text, row))
    err().print(rich, width=None if err().is_terminal else 160)
    for sentence in table.notes:
        note(sentence)
