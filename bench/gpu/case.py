"""What a section is made of, and what it is told: plain data, since it crosses to another process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .settings import Settings

Row = dict[str, Any]
Turn = Literal["first", "then", "last"]
"""When in the run: the rows that targets are about, the others, those that are slow and missed least."""


@dataclass(frozen=True, slots=True)
class Task:
    """A section's cases of one turn. `floors`: rows of that section, None where it was not measured."""

    section: str
    turn: Turn
    settings: Settings
    scratch: Path
    """Where models are made: shared by the processes of a run."""
    collection: Path | None = None
    floors: list[Row] | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement: `about` names it and stands first in each of its rows, `run` gives the rest of them."""

    about: Row
    run: Callable[[], Iterable[Row]]

    @property
    def label(self) -> str:
        """Its name within the section."""
        return ", ".join(str(value) for value in self.about.values())
