"""The document of a run as Markdown."""

from __future__ import annotations

from typing import Any


def markdown(document: dict[str, Any]) -> str:
    """A heading and a table a section; a section that failed or was skipped says why."""
    environment = document["environment"]
    lines = [
        f"# tandem bench gpu: {environment['gpu']}",
        "",
        *(["**A dry run on a CPU: no number here means anything.**", ""] if document["dry_run"] else []),
        f"commit {environment['commit']}, {', '.join(f'{k} {v}' for k, v in environment['packages'].items())}",
        "",
    ]
    for name, section in document["sections"].items():
        lines += [f"## {name} ({section['seconds']:.1f} s)", ""]
        if section["error"]:
            lines += [f"**not finished:** {section['error']}", ""]
        if section["rows"]:
            lines += [*_table(section["rows"]), ""]
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return head + ["| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in rows]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value).replace("|", "/").replace("\n", " ")
