"""What the sub-commands of `tandem bench` share: their options, declared once, and how a document leaves."""

from __future__ import annotations

import inspect
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table as RichTable

from ..bench.document import RESULTS, Document, Table, save, tables, text
from ..engine.collection.report import Progress
from .console import err, note, print_json, progress_bar

if TYPE_CHECKING:
    from ..bench.setup import Setup
    from ..bench.workloads import Workload

FAR = "../../"
"""Of a relative path that leads further away than to a folder beside this one."""
WIDTH = 160
"""Characters of a table where no terminal says otherwise."""
SAVE = typer.Option(False, "--save", help="Also keep the document in --results, for `tandem bench report`.")
RESULTS_FOLDER = typer.Option(RESULTS, "--results", help="Where --save keeps documents.")
CANDIDATES = typer.Option(100, min=1, help="Passages to rerank.")
PRECISION = typer.Option("auto", help="Precision of our cross-encoder.")
Measured = tuple[Document, list[str]]
"""A document, and the parts of its name as a file."""
Measure = Callable[..., Iterator[Measured]]
"""Gives its document once, or again and again as it grows: what was measured stays when the rest is interrupted."""


def _option(name: str, kind: Any, option: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=kind)


FIRST = (
    _option("collection", Path | None, typer.Argument(
        None, help="The collection's folder (default: --questions' corpus, indexed into .bench).")),
    _option("questions", Path | None, typer.Option(
        None, "--questions", help="A BEIR folder: corpus, queries, qrels (default: Python's documentation).")),
)  # fmt: skip
SEED = _option("seed", int, typer.Option(0, help="Of every draw, and of the order of turns where that changes."))
THREADS = _option(
    "threads", int | None, typer.Option(None, min=1, help="CPU threads of every system (default: one a core).")
)
RIVALS = (
    _option("rival", list[str], typer.Option(
        None, "--rival", help="Rivals, instead of those that need no environment of their own; `all`.")),
    _option("environments", Path | None, typer.Option(
        None, "--environments", help="Where rivals' environments are (default: .rivals).")),
)  # fmt: skip
KEEP = (_option("save", bool, SAVE), _option("results", Path, RESULTS_FOLDER))


def kept(measure: Measure) -> Callable[..., None]:
    """A command that shows what `measure` returns and keeps it where that is asked for."""

    @wraps(measure)
    def run(*, save: bool, results: Path, **options: Any) -> None:
        path = None
        for document, parts in measure(**options):
            path = keep(document, results, *parts) if save else None
        finish(document, path)
        if not document.get("passed", True):
            raise typer.Exit(1)  # its notes say what failed

    return _with(run, [*inspect.signature(measure, eval_str=True).parameters.values(), *KEEP])


def on_a_collection(*, rivals: bool = False) -> Callable[[Measure], Callable[..., None]]:
    """A command on a collection and questions, made where they are missing: `measure` gets an `Opener`, its own
    options, and with `rivals` those of RIVALS through it."""
    shared = [*(RIVALS if rivals else ()), SEED, THREADS]

    def decorate(measure: Measure) -> Callable[..., None]:
        own = [*inspect.signature(measure, eval_str=True).parameters.values()][1:]

        @wraps(measure)
        def run(*, collection: Path | None, questions: Path | None, **options: Any) -> Iterator[Measured]:
            from ..bench.workloads import prepare

            values = {each.name: options.pop(each.name) for each in shared}
            with progress_bar() as progress:
                work = prepare(collection, questions, tell=note, progress=progress)
                yield from measure(Opener(work, progress, **values), **options)

        return kept(_with(run, [*FIRST, *own, *shared]))

    return decorate


@dataclass(frozen=True, slots=True)
class Opener:
    """What to measure on, before its engine is open."""

    workload: Workload
    progress: Progress
    seed: int
    threads: int | None
    rival: list[str] | None = None
    environments: Path | None = None

    @contextmanager
    def opened(self, **settings: Any) -> Iterator[Setup]:
        """The collection with its models, with settings of the engine."""
        from ..bench.setup import Setup
        from ..bench.workloads import opened

        with opened(self.workload, threads=self.threads, **settings) as engine:
            yield Setup(engine, self.workload, self.rivals(), self.environments, self.seed, self.progress)

    def rivals(self) -> list[str]:
        """The rivals asked for: the default ones, `all`, `none`, or those named."""
        from ..bench.rivals import DEFAULT, RIVALS

        if not self.rival:
            return list(DEFAULT)
        if self.rival == ["none"]:
            return []
        return list(RIVALS) if self.rival == ["all"] else self.rival


def _with(run: Callable[..., Any], parameters: list[inspect.Parameter]) -> Callable[..., Any]:
    """`run`, which a command line gives these parameters."""
    made = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    run.__signature__ = inspect.Signature(made)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in made}
    return run


def keep(document: Document, results: Path, *parts: str) -> Path:
    """Keep it in `results`, named by the benchmark and `parts`, with the command that made it; its path."""
    return save({**document, "command": typed()}, results, *parts)


def finish(document: Document, path: Path | None = None) -> None:
    """Tables on stderr, and where the document was kept; last, JSON on stdout."""
    for table in tables(document):
        show(table)
    if path is not None:
        note(f"kept in {path}")
    print_json({**document, "command": typed()})


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
