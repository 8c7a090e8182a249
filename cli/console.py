"""What commands show people: results on stdout, everything else on stderr, no bar where nobody looks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from ..engine.collection.report import Progress


@cache
def out() -> Console:
    """Where results go. Made when first used: a console reads the environment (COLUMNS, NO_COLOR)."""
    return Console(soft_wrap=True, highlight=False, markup=False)


@cache
def err() -> Console:
    """Where everything else goes."""
    return Console(stderr=True, highlight=False, markup=False)


def print_json(document: Any) -> None:
    """One line of JSON on stdout, for machines."""
    print(json.dumps(document, ensure_ascii=False, allow_nan=False))  # noqa: T201


def note(message: str) -> None:
    """A line about the work, on stderr."""
    err().print(message, style="dim", soft_wrap=True)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A callback (done, total or None, what is done) that draws a bar a task on stderr, silent where none looks."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Bars(*columns, console=err(), disable=not err().is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def report(done: int, total: int | None, what: str) -> None:
            task = tasks.get(what)
            if task is None:
                task = tasks[what] = bar.add_task(what, total=total)
            bar.update(task, completed=done, total=total)

        yield report
