"""The document of a run as it grows: ratios and targets out of its rows, written after each of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...engine.platform.durable_io import replace_durably
from ..document import Document, Row, Table, document, grid, plain
from ..report import section
from .device import COLUMN
from .plan import SECTIONS
from .targets import targets

MEASURES = "everything that is said about GPUs, in one go: checks, floors, kernels, latency, throughput, rivals"
CHECKED = ("checks", "engine")
"""Sections whose rows can fail a run."""
VERDICTS = {
    True: "checks: passed", None: "checks: not run",
    False: "checks: not passed, so times may be of something that is wrong or was not proven",
}  # fmt: skip
NOTES = {
    "rivals": [
        "given texts, and tokenising them in the time: tandem packed, from texts; sentence-transformers, as its users "
        "give it. Given token ids on the host: all others. All give scores on the host",
        "sentence-transformers with batches of 128 and of 512, of which the faster counts; plain ONNX Runtime and "
        "torch.compile with batches of 128",
    ],
    "throughput": ["queries that wait together are different, so that none is answered by another's"],
}


class RunRecord:
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
        found = self.sections[name]
        found["rows"].append(plain(row))
        peaks = [row[COLUMN] for row in found["rows"] if row.get(COLUMN) is not None]
        found["peak GiB"] = max(peaks, default=None)
        if name == "rivals":
            _compare(found["rows"])
        self.write()

    def end(self, name: str, seconds: float, error: str | None) -> None:
        """A part has ended after `seconds`, with an error or without."""
        found = self.sections[name]
        found["seconds"] = round(found["seconds"] + seconds, 2)
        if error is not None and error not in (found["error"] or ""):
            found["error"] = "; ".join(filter(None, (found["error"], error)))
        self.write()

    def left_out(self, name: str, error: str) -> None:
        """A part that was not begun: what an earlier run had of its section stays."""
        if name not in self.sections or name in self._fresh:
            self.begin(name)
            self.end(name, 0.0, error)

    def document(self) -> Document:
        """Everything so far."""
        sections = {name: self.sections[name] for name in SECTIONS if name in self.sections}
        reached, verdict = targets(sections), passed(sections)
        notes = [
            *(["A dry run on a CPU: no number here means anything"] if self._dry else []),
            VERDICTS[verdict], "by the rows below; nothing is said where a row is missing", *filter(None, [self.note]),
        ]  # fmt: skip
        return document(
            "gpu", MEASURES, workload={"name": self._environment["gpu"]}, environment=self._environment,
            tables=[grid("targets", reached, notes), *(_table(name, each) for name, each in sections.items())],
            targets=reached, checks_passed=verdict, dry_run=self._dry, note=self.note, sections=sections,
        )  # fmt: skip

    def write(self) -> None:
        """Both files; a crash at any moment leaves them old or new."""
        made = self.document()
        words = json.dumps(made, indent=2, allow_nan=False) + "\n"
        replace_durably(self._base.with_suffix(".json"), words.encode())
        replace_durably(self._base.with_suffix(".md"), section(made).encode())

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
        different = [key for key in ("gpu", "commit", "packages") if was.get(key) != now.get(key)]
        if different:
            what = ", ".join(f"{key} {was.get(key)}" if key != "packages" else "other packages" for key in different)
            self.note = f"the results of an earlier run ({what}) were replaced, since they are of something else"
            return {}
        if now.get("commit") is None or str(now["commit"]).endswith("-dirty"):
            self.note = (
                f"sections of an earlier run may be of other code: its commit is {now.get('commit') or 'unknown'} too"
            )
        return sections


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


def _compare(rows: Iterable[Row]) -> None:
    """Write into each row how many times the time of ours it took, on the same pairs."""
    rows = [row for row in rows if row.get("p50 ms")]
    ours = {(row["model"], row["pairs"]): row["p50 ms"] for row in rows if row["who"] == "tandem packed"}
    for row in rows:
        if (own := ours.get((row["model"], row["pairs"]))) is not None:
            row["times slower than packed"] = row["p50 ms"] / own


def _table(name: str, found: dict[str, Any]) -> Table:
    notes = [*NOTES.get(name, [])]
    if found["peak GiB"] is not None:
        notes.append(f"at most {found['peak GiB']:.1f} GiB of the card were taken, whoever took them")
    if found["error"]:
        notes.append(f"not finished: {found['error']}")
    return grid(f"{name} ({found['seconds']:.1f} s)", found["rows"], notes)
