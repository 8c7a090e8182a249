"""The document of a run as it grows: rows made fit for JSON, ratios and targets out of them, written after each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...engine.platform.durable_io import replace_durably
from .case import SECTIONS, Row
from .memory import COLUMN
from .report import markdown, tabled
from .targets import targets

CHECKED = ("checks", "engine")
"""Sections whose rows can fail a run."""
# Of which section which column is compared with whose, among rows that share the other columns named.
RATIOS = {
    "kernels": ("us", "ours", ("op", "called"), "times slower than ours"),
    "rivals": ("p50 ms", "tandem packed", ("model", "pairs"), "times slower than packed"),
}


class ResultFile:
    """What was measured, in `base`.json and `base`.md."""

    def __init__(self, base: Path, *, dry: bool, environment: dict[str, Any]) -> None:
        self._base = base
        self._dry = dry
        self._environment = environment
        self._fresh: set[str] = set()
        self.note: str | None = None
        """What became of an earlier run's file."""
        self.sections: dict[str, Any] = self._kept()

    def begin(self, name: str) -> None:
        """A part of section `name`: the first one of this run takes the place of what an earlier run had."""
        if name not in self._fresh:
            self.sections[name] = {"seconds": 0.0, "error": None, "peak GiB": None, "rows": []}
            self._fresh.add(name)

    def row(self, name: str, row: Row) -> None:
        """Add a row, and write the files."""
        section = self.sections[name]
        section["rows"].append(plain(row))
        peaks = [row[COLUMN] for row in section["rows"] if row.get(COLUMN) is not None]
        section["peak GiB"] = max(peaks, default=None)
        if name in RATIOS:
            _compare(section["rows"], *RATIOS[name])
        self.write()

    def end(self, name: str, seconds: float, error: str | None) -> None:
        """A part has ended after `seconds`, with an error or without."""
        section = self.sections[name]
        section["seconds"] = round(section["seconds"] + seconds, 2)
        if error is not None and error not in (section["error"] or ""):
            section["error"] = "; ".join(filter(None, (section["error"], error)))
        self.write()

    def left_out(self, name: str, error: str) -> None:
        """A part that was not begun: what an earlier run had of its section stays."""
        if name not in self.sections or name in self._fresh:
            self.begin(name)
            self.end(name, 0.0, error)

    def document(self) -> dict[str, Any]:
        """Everything so far, with tables."""
        sections = {name: self.sections[name] for name in SECTIONS if name in self.sections}
        return tabled({
            "benchmark": "gpu", "targets": targets(sections), "checks_passed": passed(sections), "dry_run": self._dry,
            "environment": self._environment, "note": self.note, "sections": sections,
        })  # fmt: skip

    def write(self) -> None:
        """Both files; a crash at any moment leaves them old or new."""
        document = self.document()
        words = json.dumps(document, indent=2, allow_nan=False) + "\n"
        replace_durably(self._base.with_suffix(".json"), words.encode())
        replace_durably(self._base.with_suffix(".md"), markdown(document).encode())

    def _kept(self) -> dict[str, Any]:
        """Sections of an earlier file of the same card and commit; of another one none, and `note` says so."""
        path = self._base.with_suffix(".json")
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
            was, sections = earlier["environment"], dict(earlier["sections"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError):
            self.note = "an earlier file could not be read as a result, and was replaced"
            return {}
        now = self._environment
        different = [key for key in ("gpu", "commit", "torch", "packages") if was.get(key) != now.get(key)]
        if different:
            what = ", ".join(f"{key} {was.get(key)}" if key != "packages" else "other packages" for key in different)
            self.note = f"the results of an earlier run ({what}) were replaced, since they are of something else"
            return {}
        if now.get("commit") is None or str(now["commit"]).endswith("-dirty"):
            self.note = (
                f"sections of an earlier run may be of other code: its commit is {now.get('commit') or 'unknown'} too"
            )
        return sections


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


def passed(sections: dict[str, Any]) -> bool | None:
    """Whether no check failed and one at least passed; None where none was run.

    One that could not run (`passed` None) is no failure, and no proof: its row says so. A row without `passed` is of a
    check that did not come to its end.
    """
    if "checks" not in sections:
        return None
    rows = [row for name in CHECKED for row in sections.get(name, {"rows": []})["rows"]]
    found = [row.get("passed", False) for row in rows]
    # Those of the kernels and the engine come last, and need not all be reached.
    found += [row["passed"] for row in sections.get("tests", {"rows": []})["rows"] if "passed" in row]
    complete = all(sections[name]["error"] is None for name in CHECKED if name in sections)
    return complete and True in found and False not in found


def _compare(rows: Iterable[Row], column: str, ours: str, keys: tuple[str, ...], ratio: str) -> None:
    """Write into each row of `rows` how many times the time of ours it took."""
    rows = list(rows)
    times = {
        tuple(row.get(key) for key in keys): row[column] for row in rows if row.get("who") == ours and row.get(column)
    }
    for row in rows:
        if row.get(column) and (own := times.get(tuple(row.get(key) for key in keys))) is not None:
            row[ratio] = row[column] / own
