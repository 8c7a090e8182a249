"""Saved results → bench/RESULTS.md: their tables as they were shown, the command and machine of each, pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..engine.platform.durable_io import storage
from .document import Document, Table, load, tables, text
from .environment import line
from .plots import draw

ORDER = (
    "latency",
    "throughput",
    "eval",
    "quality",
    "recall",
    "writes",
    "index",
    "export",
    "families",
    "kernels",
    "gpu",
    "serve",
    "rivals",
)
# Benchmarks whose figures are a reranker's.
RERANKING = ("latency", "throughput", "eval", "quality", "export", "serve")
HEAD = """# Results

Made by `tandem bench report` from the files in `{results}`; nothing here is written by hand. Times are of the machine
named under each table; ratios travel better than times. `make bench` measures again.
"""


def report(results: Path, out: Path) -> Path:
    """Write the report `out` from the documents in `results`, and pictures beside those; raises InputError for none."""
    found = load(results)
    pictures = {name: draw(name, result, results) for name, result in found.items()}
    where = os.path.relpath(results, out.parent)
    found = dict(sorted(found.items(), key=lambda pair: (_place(pair[1]), pair[0])))
    parts = [HEAD.format(results=where), markdown(_measured(found))]
    for name in found:
        parts.append(section(found[name], [f"{where}/{path.name}" for path in pictures[name]], f"{where}/{name}.json"))
    with storage(out):
        out.write_text("\n".join(parts), encoding="utf-8")
    return out


def markdown(table: Table) -> str:
    """A table with its notes."""
    head = f"| {' | '.join(map(_cell, table.columns))} |\n|{'---|' * len(table.columns)}\n"
    body = "".join(f"| {' | '.join(_cell(text(cell)) for cell in row)} |\n" for row in table.rows)
    notes = "".join(f"* {_cell(note)}\n" for note in table.notes)
    return f"**{table.title}**\n\n{head}{body}" + (f"\n{notes}" if notes else "")


def _measured(found: Mapping[str, Document]) -> Table:
    """What was measured when, on which code and with which weights: results of different ones do not compare."""
    environments = [result["environment"] for result in found.values()]
    weights = [_weights(result) for result in found.values()]
    rows = [
        [name, card.get("day"), card.get("commit") or "unknown", card["cpu"], reranker]
        for name, card, reranker in zip(found, environments, weights, strict=True)
    ]
    differing = {
        "commits": {card.get("commit") for card in environments},
        "processors": {(card["cpu"], *card.get("cpu_flags", [])) for card in environments},
        "rerankers' weights": {each or "unknown" for each, result in zip(weights, found.values(), strict=True)
                               if result["benchmark"] in RERANKING},
    }  # fmt: skip
    notes = [
        f"{len(several)} different {what}: compare within a result rather than across"
        for what, several in differing.items()
        if len(several) > 1
    ]
    return Table("What was measured", ["result", "day", "commit", "processor", "reranker's weights"], rows, notes)


def _weights(result: Document) -> str | None:
    workload: Any = result.get("workload", {})
    weights: dict[str, str | None] = workload.get("weights") or {}
    return weights.get("reranker")


def section(result: Document, pictures: Sequence[str] = (), file: str = "") -> str:
    """A result as its part of the report; `file` is where it is kept."""
    parts = [f"## {_title(result)}\n", f"{_sentence(str(result.get('measures', '')))}\n"]
    parts += [markdown(table) for table in tables(result)]
    parts += [f"![{_title(result)}]({picture})\n" for picture in pictures]
    if "command" in result:
        parts.append(f"`{result['command']}` ([result]({file}))\n")
    parts.append(f"Machine: {line(result['environment'])}\n")
    return "\n".join(parts)


def _title(result: Document) -> str:
    workload: Any = result.get("workload", {})
    name = workload.get("name") if isinstance(workload, dict) else None
    return str(result["benchmark"]) + (f": {name}" if name else "")


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}." if words else ""


def _place(result: Document) -> int:
    benchmark = str(result["benchmark"])
    return ORDER.index(benchmark) if benchmark in ORDER else len(ORDER)


def _cell(words: Any) -> str:
    return str(words).replace("|", "\\|").replace("\n", " ")
