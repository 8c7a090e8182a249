"""The sections of a run, what they are made of and in which order: plain data, since it crosses to another process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from ...engine.errors import InputError
from ..document import Row
from ..roofline import Rates
from .settings import Settings

Turn = Literal["first", "then", "last"]
"""When in the run: the rows that targets are about, the others, those that are slow and missed least."""

SECTIONS: dict[str, str] = {
    "checks": ".checks:checks", "floors": ".kernels:floors", "kernels": ".kernels:kernels",
    "latency": ".search:latency", "throughput": ".search:throughput", "engine": ".checks:engine",
    "rivals": ".rivals:rivals", "tests": ".checks:tests",
}  # fmt: skip
"""Where the function is that gives a section's cases; imported when its turn comes."""
# Right before fast; then the rows that targets are about, so that a run that is cut short has them; last what is slow
# to start (torch.compile, tests of every kernel) or large. FAISS is a part of its own: it may end its process.
PLAN: tuple[tuple[str, Turn], ...] = (
    ("checks", "first"), ("checks", "then"), ("floors", "first"),
    ("latency", "first"), ("rivals", "first"), ("kernels", "first"),
    ("kernels", "then"), ("latency", "then"), ("throughput", "then"), ("engine", "then"), ("rivals", "then"),
    ("latency", "last"), ("rivals", "last"), ("kernels", "last"), ("tests", "last"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Task:
    """A section's cases of one turn. `rates`: the floors that were measured before, None where one was not."""

    section: str
    turn: Turn
    settings: Settings
    scratch: Path
    """Where models are made: shared by the processes of a run."""
    collection: Path | None = None
    rates: Rates | None = None

    def order(self) -> Row:
        """Itself as JSON's types."""
        order: Row = TypeAdapter(Task).dump_python(self, mode="json")
        return order

    @staticmethod
    def of(order: Row) -> Task:
        """The task of an `order`."""
        return TypeAdapter(Task).validate_python(order)


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement: `about` names it and stands first in each of its rows, `run` gives the rest of them."""

    about: Row
    run: Callable[[], Iterable[Row]]
    turn: Turn = "then"

    @property
    def label(self) -> str:
        """Its name within the section."""
        return ", ".join(str(value) for value in self.about.values())


def cases(task: Task) -> Iterator[Case]:
    """The cases of a task, each made when it is reached."""
    module, _, name = SECTIONS[task.section].partition(":")
    found: Iterable[Case] = getattr(import_module(module, __package__), name)(task)
    return (case for case in found if case.turn == task.turn)


def chosen(names: Sequence[str] | None) -> list[str]:
    """The sections named, as a document orders them; all for None. Raises InputError for an unknown one."""
    if names is None:
        return list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        raise InputError(f"unknown section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    return [name for name in SECTIONS if name in names]
