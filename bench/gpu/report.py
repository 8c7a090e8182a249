"""The document of a run as tables, and those as Markdown."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..document import Table, tables
from ..report import markdown as written

MEASURES = "everything that is said about GPUs, in one go: checks, floors, kernels, latency, throughput, rivals"


def tabled(document: dict[str, Any]) -> dict[str, Any]:
    """`document` with what every benchmark's has: what it measures, on what, and a table a section."""
    workload = {"name": document["environment"]["gpu"]}
    found = [asdict(_table(name, section)) for name, section in document["sections"].items()]
    return {**document, "measures": MEASURES, "workload": workload, "tables": found}


def markdown(document: dict[str, Any]) -> str:
    """A heading and a table a section of a document that is `tabled`; a section that failed or was skipped says why."""
    environment = document["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    lines = [
        f"# tandem bench gpu: {environment['gpu']}\n",
        *(["**A dry run on a CPU: no number here means anything.**\n"] if document["dry_run"] else []),
        f"commit {environment['commit']}, {packages}\n",
        *map(written, tables(document)),
    ]
    return "\n".join(lines)


def _table(name: str, section: dict[str, Any]) -> Table:
    columns = list(dict.fromkeys(column for row in section["rows"] for column in row)) or ["nothing was measured"]
    rows = [[_cell(row.get(column)) for column in columns] for row in section["rows"]]
    unfinished = [f"not finished: {section['error']}"] if section["error"] else []
    return Table(f"{name} ({section['seconds']:.1f} s)", columns, rows, unfinished)


def _cell(value: Any) -> str | float | int | None:
    return value if value is None or isinstance(value, (float, int, str)) else str(value)
