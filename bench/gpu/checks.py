"""Right before fast: the tests marked `gpu`, run by pytest in the part's own process, a row a test.

`checks` are the oracles (`tests/bench/gpu`): kernels, models and FAISS against numpy and FP32 on the CPU, on random
inputs; each row says the error found and the error allowed. `tests` are those of the kernels and the engine, which go
further and take longer. `engine` searches a real collection, where one was given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ..document import Row
from .plan import Case, Task

ROOT = Path(__file__).resolve().parents[2]
ORACLES = "bench/gpu/test_oracles.py"
COLLECTION = "bench/gpu/test_collection.py"
FAISS = "bench/gpu/test_faiss.py"
"""Apart: where FAISS's build does not suit its card, it ends the process."""
MARK = "mark.gpu"
PLUGIN = "tandem-bench-gpu"
"""By this name tests find the task: its settings and its collection."""


def checks(task: Task) -> Iterator[Case]:
    """The oracles on the device; a dry run asks the same of the CPU."""
    yield Case({"file": ORACLES}, partial(tested, ORACLES, task), "first")
    yield Case({"file": FAISS}, partial(tested, FAISS, task))


def engine(task: Task) -> Iterator[Case]:
    """A real collection with its own models, named by its last part: a result must not tell where files lie."""
    name = None if task.collection is None else task.collection.name
    yield Case({"collection": name}, partial(tested, COLLECTION, task))


def tests(task: Task) -> Iterator[Case]:
    """The files below tests/kernels and tests/engine that have something to run on a GPU; of a dry run the first."""
    folder = ROOT / "tests"
    files = [*folder.glob("kernels/test_*.py"), *folder.glob("engine/**/test_*.py")]
    # Those of the kernels get their mark from a fixture.
    marked = [file for file in files if "kernels" in file.parts or MARK in file.read_text(encoding="utf-8")]
    for file in sorted(marked, reverse=True)[: 1 if task.settings.dry else None]:
        name = file.relative_to(folder).as_posix()
        yield Case({"file": name}, partial(tested, name, task), "last")


def tested(file: str, task: Task) -> Iterator[Row]:
    """A row for each test function of a file: whether it passed, None where it could not be run here, and what it
    recorded."""
    path = ROOT / "tests" / file
    if not path.exists():
        yield {"passed": None, "error": "not run: the tests are not here; a checkout has them"}
        return
    import pytest

    found = _Rows(task)
    arguments = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
    code = pytest.main([*arguments, "-m", "not gpu" if task.settings.dry else "gpu", str(path)], plugins=[found])
    yield from found.rows.values()
    # A file that cannot be read has its row, and ends pytest as an interruption.
    if code == pytest.ExitCode.INTERNAL_ERROR or (code > pytest.ExitCode.TESTS_FAILED and not found.rows):
        nothing = code == pytest.ExitCode.NO_TESTS_COLLECTED
        yield {
            "passed": None if nothing else False,
            "error": f"not run: pytest ended with {pytest.ExitCode(code).name}",
        }


class _Rows:
    """A plugin of pytest that makes rows of its reports: one a function, whatever parameters it has."""

    __name__ = PLUGIN

    def __init__(self, task: Task) -> None:
        self.task = task
        self.rows: dict[str, Row] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when != "call" and report.passed:
            return
        name = report.nodeid.partition("::")[2].partition("[")[0]
        row = self.rows.setdefault(name, {"check": _words(name), "passed": None, "tests": 0})
        row["tests"] += report.when == "call" or report.skipped
        told = dict(report.user_properties)
        worst = "found" not in row or _share(told) > _share(row)  # of several parameters that one is told of
        if worst:
            row.update(told)
        if report.failed and (worst or row["passed"] is not False):
            row |= {"passed": False, "error": _reason(report)}
        elif report.skipped:
            row.setdefault("error", f"not run: {_reason(report)}")
        elif row["passed"] is None:
            row["passed"] = True

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            reason = _reason(report)
            # A library that a test wants and this machine lacks: no proof, no failure.
            missing = "ModuleNotFoundError" in reason and "'tandem" not in reason
            self.rows[report.nodeid] = {
                "check": "its tests can be read", "passed": None if missing else False,
                "error": f"not run: {reason}" if missing else reason,
            }  # fmt: skip


def _share(row: Row) -> float:
    """What was found as a share of what is allowed."""
    found, allowed = row.get("found", 0.0), row.get("allowed", 0.0)
    return float(found / allowed if allowed else found * math.inf if found else 0.0)


def _words(name: str) -> str:
    return name.rpartition("::")[2].removeprefix("test_").replace("_", " ")


def _reason(report: Any) -> str:
    """Why a test failed or was skipped, in one line."""
    if isinstance(report.longrepr, tuple):  # file, line, why it was skipped
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = str(crash.message if crash else report.longrepr).strip().splitlines()
    return (lines[0] if crash else lines[-1]).removeprefix("E").strip()[:300] if lines else "it failed without a word"
