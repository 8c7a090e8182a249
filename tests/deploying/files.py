"""The files of docs/deploying as data."""

from __future__ import annotations

import configparser
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "deploying"
CHART = FOLDER / "chart"
_CONTINUED = re.compile(r"\\\n")
_PAIR = re.compile(r'([A-Z_][\w.]*|[a-z][\w.]*)=("[^"]*"|\S+)')


@dataclass(frozen=True)
class Instruction:
    """One instruction of the Containerfile: its word, and the rest as one line."""

    word: str
    rest: str

    @property
    def array(self) -> list[str]:
        """Of an exec form: its words. Raises ValueError for a shell form."""
        found: list[str] = json.loads(self.rest[self.rest.index("[") :])
        return found

    @property
    def pairs(self) -> dict[str, str]:
        """Of ENV, LABEL and ARG: values by name."""
        return {name: value.strip('"') for name, value in _PAIR.findall(self.rest)}


def containerfile() -> list[Instruction]:
    """The instructions, comments left out and continued lines joined."""
    text = (FOLDER / "Containerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = _CONTINUED.sub(" ", "\n".join(lines))
    return [Instruction(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def only(word: str) -> Instruction:
    """The one instruction of that word."""
    (found,) = (each for each in containerfile() if each.word == word)
    return found


def compose() -> dict[str, Any]:
    """compose.yaml with its anchors filled in; variables stay as they are written."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    return found


def values() -> dict[str, Any]:
    """What the chart is rendered with where nothing else is said."""
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return found


def template(name: str) -> str:
    """A template of the chart as it is written."""
    return (CHART / "templates" / name).read_text(encoding="utf-8")


def unit() -> configparser.SectionProxy:
    """The section Service of the unit; of a repeated line the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(FOLDER / "tandem.service", encoding="utf-8")
    return parser["Service"]


def everything() -> dict[str, str]:
    """The text of every file, by its path in the folder."""
    return {
        path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(FOLDER.rglob("*"))
        if path.is_file()
    }
