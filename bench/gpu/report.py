"""The document of a run as tables, and those as Markdown."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..document import Table, tables
from ..report import markdown as written

MEASURES = "everything that is said about GPUs, in one go: checks, floors, kernels, latency, throughput, rivals"


NOTES = {
    "targets": ["by the rows below; nothing is said where a row is missing"],
    "rivals": [
        "given texts, and tokenising them in the time: tandem packed, from texts; sentence-transformers, as its users "
        "give it. Given token ids on the host: all others. All give scores on the host",
        "sentence-transformers with batches of 128 and of 512, of which the faster counts; plain ONNX Runtime and "
        "torch.compile with batches of 128",
    ],
    "throughput": ["each caller asks queries of its own, so that none is answered by another's"],
}


def tabled(document: dict[str, Any]) -> dict[str, Any]:
    """`document` with what every benchmark's has: what it measures, on what, and tables, that of the targets first."""
    workload = {"name": document["environment"]["gpu"]}
    reached = Table("targets", *_grid(document["targets"]), NOTES["targets"])
    found = [reached, *(_table(name, section) for name, section in document["sections"].items())]
    return {**document, "measures": MEASURES, "workload": workload, "tables": [asdict(table) for table in found]}


def markdown(document: dict[str, Any]) -> str:
    """A heading and a table a section of a document that is `tabled`; a section that failed or was skipped says why."""
    environment = document["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    lines = [
        f"# tandem bench gpu: {environment['gpu']}\n",
        *(["**A dry run on a CPU: no number here means anything.**\n"] if document["dry_run"] else []),
        f"commit {environment['commit'] or 'unknown'}, {packages}\n",
        f"Checks: {CHECKED[document['checks_passed']]}.\n",
        *([f"Note: {document['note']}.\n"] if document["note"] else []),
        *map(written, tables(document)),
    ]
    return "\n".join(lines)


CHECKED = {
    True: "passed", None: "not run", False: "not passed, so times may be of something that is wrong or was not proven"
}  # fmt: skip


def _table(name: str, section: dict[str, Any]) -> Table:
    notes = [*NOTES.get(name, [])]
    if section["peak GiB"] is not None:
        notes.append(f"at most {section['peak GiB']:.1f} GiB of the card were taken, whoever took them")
    if section["error"]:
        notes.append(f"not finished: {section['error']}")
    return Table(f"{name} ({section['seconds']:.1f} s)", *_grid(section["rows"]), notes)


def _grid(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Columns as they first occur, and the cells."""
    columns = list(dict.fromkeys(column for row in rows for column in row)) or ["nothing was measured"]
    return columns, [[_cell(row.get(column)) for column in columns] for row in rows]


def _cell(value: Any) -> Any:
    """Yes and no, which a table would show as 1 and 0."""
    return ("no", "yes")[value] if isinstance(value, bool) else value
