"""What a benchmark hands back: plain data for machines, the same tables for people, and where results are kept.

A document is a dict of JSON's types: `benchmark` (its name), `measures` (what and why, one sentence), `environment`,
`workload`, `tables`, then whatever was measured. Its tables are what the command prints and what `tandem bench report`
puts into RESULTS.md, so a benchmark has one place where its figures become words.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..engine.errors import InputError
from ..engine.platform.durable_io import storage
from .environment import card

RESULTS = Path("bench") / "results"
Cell = str | float | int | None
Document = dict[str, Any]
Row = dict[str, Any]
"""A measurement by the names of its columns."""


@dataclass(frozen=True, slots=True)
class Table:
    """`columns` name the cells of each row; `notes` are sentences below it: floors, losses, what was left out."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default=())


def grid(title: str, rows: Sequence[Row], notes: Sequence[str] = ()) -> Table:
    """A table of `rows`, whose columns come as they first occur."""
    columns = list(dict.fromkeys(column for row in rows for column in row)) or ["nothing was measured"]
    return Table(title, columns, [[_cell(row.get(column)) for column in columns] for row in rows], notes)


def plain(row: Row) -> Row:
    """A row of JSON's types: numbers that are not finite become None, and `not finite` names their columns."""
    made: Row = {}
    odd: list[str] = []
    for name, value in row.items():
        value = value.item() if hasattr(value, "item") else value
        if isinstance(value, float) and not math.isfinite(value):
            odd.append(f"{name} is {value}")
            value = None
        made[name] = value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
    return {**made, "not finite": ", ".join(odd)} if odd else made


def document(
    benchmark: str,
    measures: str,
    *,
    workload: Mapping[str, Any],
    tables: Sequence[Table],
    environment: Mapping[str, Any] | None = None,
    **measured: Any,
) -> Document:
    """The document of one run on `environment` (None: this machine); `measured` are a benchmark's own keys, of JSON's
    types."""
    return {
        "benchmark": benchmark,
        "measures": measures,
        "environment": dict(card() if environment is None else environment),
        "workload": dict(workload),
        "tables": [asdict(table) for table in tables],
        **measured,
    }


def tables(result: Mapping[str, Any]) -> list[Table]:
    """The tables of a document."""
    return [Table(**table) for table in result.get("tables", [])]


def save(result: Mapping[str, Any], folder: Path, *parts: str) -> Path:
    """Write a document to `folder`/<benchmark>-<parts>.json, in place of an older one of that name; its path."""
    name = "-".join(filter(None, (str(result["benchmark"]), *map(slug, parts))))
    path = folder / f"{name}.json"
    with storage(path):
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return path


def load(folder: Path) -> dict[str, Document]:
    """Saved documents by file name without suffix; raises InputError when one cannot be read or none is there."""
    found: dict[str, Document] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path} is not a saved result ({error}); remove it or run its benchmark again") from error
        if not isinstance(result, dict) or "benchmark" not in result:
            raise InputError(f"{path} is not a saved result (no benchmark is named); remove it")
        found[path.stem] = result
    if not found:
        raise InputError(f"{folder} holds no saved result; make some with `tandem bench … --save`")
    return found


def text(cell: Cell) -> str:
    """A cell as people read it: nothing for None, three significant digits for numbers between."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def said(error: BaseException) -> str:
    """Kind and first line of an exception, as a row or a note tells it."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"


def not_here(absent: Mapping[str, str]) -> list[str]:
    """A note for each contestant that could not take part, with the reason."""
    return [f"{name} is not here: {reason}" for name, reason in absent.items()]


def _cell(value: Any) -> Cell:
    """Yes and no, which a table would show as 1 and 0."""
    return ("no", "yes")[value] if isinstance(value, bool) else value


def slug(part: str) -> str:
    """`part` as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-")
