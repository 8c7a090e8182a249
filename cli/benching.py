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

FAR = "../../"
"""Of a relative path that leads further away than to a folder beside this one."""
WIDTH = 160
"""Characters of a table where no terminal says otherwise."""
COLLECTION = typer.Argument(None, help="The collection's folder (default: --questions' corpus, indexed into .bench).")
QUESTIONS = typer.Option(
    None, "--questions", help="A BEIR folder: corpus, queries, qrels (default: Python's documentation)."
)
SEED = typer.Option(0, help="Of every draw, and of the order of turns where that changes.")
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
    """What was typed, with paths relative to where it was, and those of other folders by their last part alone: a saved
    result must not tell where somebody's files lie. Where it was kept is left out, as nobody else keeps it there."""
    arguments = list(sys.argv[1:])
    while "--results" in arguments:
        place = arguments.index("--results")
        del arguments[place : place + 2]
    kept = [each for each in arguments if not each.startswith("--results=")]
    return shlex.join(["tandem", *map(_told, kept)])


def _told(argument: str) -> str:
    name, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    if Path(value).is_absolute():
        value = os.path.relpath(value)
    if value.startswith(FAR):
        value = Path(value).name
    return name + equals + value


def show(table: Table) -> None:
    """One table for people, on stderr."""
    rich = RichTable(*table.columns, title=table.title, title_justify="left", box=None)
    for row in table.rows:
        rich.add_row(*map(text, row))
    console = err() if err().is_terminal else Console(stderr=True, width=WIDTH, highlight=False, markup=False)
    console.print(rich)
    for sentence in table.notes:
        note(sentence)
