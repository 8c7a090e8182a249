"""What the sub-commands of `tandem bench` share: common options, the workload, and how a document leaves."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table as RichTable

from ..bench.document import RESULTS, Document, Table, save, tables, text
from ..engine.collection.report import Progress
from .console import err, note, print_json, progress_bar

if TYPE_CHECKING:
    from ..bench.workloads import Workload

WIDTH = 160
"""Characters of a table where no terminal says otherwise."""
COLLECTION = typer.Argument(None, help="The collection's folder (default: --questions' corpus, indexed into .bench).")
QUESTIONS = typer.Option(
    None, "--questions", help="A BEIR folder: corpus, queries, qrels (default: Python's documentation)."
)
SEED = typer.Option(0, help="Of every draw and of the order in which systems take turns.")
THREADS = typer.Option(None, min=1, help="CPU threads of every system (default: one a core).")
RIVAL = typer.Option(None, "--rival", help="Rivals, instead of those that need no environment of their own; `all`.")
ENVIRONMENTS_FOLDER = typer.Option(None, "--environments", help="Where rivals' environments are (default: .rivals).")
SAVE = typer.Option(False, "--save", help="Also keep the document in --results, for `tandem bench report`.")
RESULTS_FOLDER = typer.Option(RESULTS, "--results", help="Where --save keeps documents.")


@contextmanager
def workload(collection: Path | None, questions: Path | None) -> Iterator[tuple[Workload, Progress]]:
    """The collection and questions to measure on, made where they are missing, and a progress bar."""
    from ..bench.workloads import prepare

    with progress_bar() as progress:
        yield prepare(collection, questions, tell=note, progress=progress), progress


def rivals(wanted: list[str] | None) -> list[str]:
    """The rivals asked for: the default ones, `all`, `none`, or those named."""
    from ..bench.rivals import DEFAULT, RIVALS

    if not wanted:
        return list(DEFAULT)
    if wanted == ["none"]:
        return []
    return list(RIVALS) if wanted == ["all"] else wanted


def finish(document: Document, keep: bool, results: Path, *parts: str) -> None:
    """Tables on stderr; with `keep` a file in `results` named by the benchmark and `parts`; last, JSON on stdout."""
    document = {**document, "command": typed()}
    for table in tables(document):
        show(table)
    if keep:
        note(f"kept in {save(document, results, *parts)}")
    print_json(document)


def typed() -> str:
    """What was typed, with paths relative to where: a saved result must not tell where somebody's files lie."""
    arguments = [os.path.relpath(each) if Path(each).is_absolute() else each for each in sys.argv[1:]]
    return shlex.join(["tandem", *arguments])


def show(table: Table) -> None:
    """One table for people, on stderr."""
    rich = RichTable(*table.columns, title=table.title, title_justify="left", box=None)
    for row in table.rows:
        rich.add_row(*map(text, row))
    console = err() if err().is_terminal else Console(stderr=True, width=WIDTH, highlight=False, markup=False)
    console.print(rich)
    for sentence in table.notes:
        note(sentence)
