"""What commands show people: results on stdout, everything else on stderr, no bar where nobody looks.

Every character for people goes through `Terminal`, which no foreign text can make obey it.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.segment import Segment
from rich.text import Text

from ..engine.collection.report import Progress
from .text import escaped, visible

WIDTH = 120
"""Characters of a line where neither a terminal nor COLUMNS says otherwise; wider lines are hard to read."""


class Terminal(Console):
    """A console on which text is text: no markup, no emoji codes, and a mark for what a terminal would obey."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments of `renderable`, foreign control characters marked; the console's own sequences are styles."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text, lines=True), segment.style)


@cache
def out() -> Terminal:
    """Where results go. Made when first used: a console reads the environment (COLUMNS, NO_COLOR)."""
    told = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Terminal(soft_wrap=True, width=None if told else WIDTH)


@cache
def err() -> Terminal:
    """Where everything else goes."""
    return Terminal(stderr=True)


def never_refuse() -> None:
    """Have stdout and stderr write what their encoding lacks as an escape, where they would end with an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def show(table: RenderableType) -> None:
    """A table or a page on stdout, as wide as the terminal and never wider than `WIDTH`."""
    out().print(table, width=min(out().width, WIDTH), soft_wrap=False)


def print_json(document: Any) -> None:
    """One line of JSON on stdout, for machines; in ASCII where stdout is not UTF-8."""
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    print(escaped(json.dumps(document, ensure_ascii=ascii_only, allow_nan=False)))  # noqa: T201


def note(message: str) -> None:
    """A line about the work, on stderr."""
    err().print(visible(message), style="dim", soft_wrap=True)


def complain(message: str) -> None:
    """A line that says what went wrong, on stderr."""
    err().print(visible(message), style="red", soft_wrap=True)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Says on a terminal what the next seconds are spent on, until they are over."""
    if not err().is_interactive:
        yield
        return
    with err().status(Text(visible(what), "dim")):
        yield


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A callback (done, total or None, what is done) that draws a bar a task on stderr, silent where none looks."""
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Bars(*columns, console=err(), disable=not err().is_interactive) as bar:
        tasks: dict[str, Any] = {}

        def report(done: int, total: int | None, what: str) -> None:
            task = tasks.get(what)
            if task is None:
                task = tasks[what] = bar.add_task(what, total=total)
            bar.update(task, completed=done, total=total)

        yield report


class _Notes(logging.Handler):
    """Log records as notes, each message once: two engines of one command say the same of the machine."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record)
        if message not in self._said:
            self._said.add(message)
            note(message)


def log_to_stderr(form: str = "%(message)s") -> None:
    """Warnings of the engine as notes, each written as `form` (see `logging.Formatter`)."""
    handler = _Notes()
    handler.setFormatter(logging.Formatter(form, "%H:%M:%S"))
    # A library may set its own logger to debug (bm25s does), which the root's level does not hold back.
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name.startswith("tandem"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
