"""The checks of `tandem bench gpu`: what pytest runs, and what a row says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tandem.bench.gpu import checks as checking
from tandem.bench.gpu.plan import Task, cases
from tandem.bench.gpu.settings import DRY_RUN, Settings


def task(section: str, turn: Any, settings: Settings = DRY_RUN) -> Task:
    return Task(section, turn, settings, Path())


# A file with a test of each kind, among them what a machine lacks and a fault of the device.
CHECKED = """
import pytest
from tandem.engine.errors import DeviceError

@pytest.mark.parametrize("found", [0.1, 0.25, 0.2])
def test_scan_against_numpy(record_property, found):
    record_property("found", found)
    record_property("allowed", 0.5)

@pytest.mark.parametrize("found", [0, 2, 1])
def test_some_are_too_far(record_property, found):
    record_property("found", found)
    record_property("allowed", 0)
    assert found <= 0, f"{found} ids that differ"

def test_a_fault():
    raise DeviceError("the GPU stopped working during a scan")

def test_too_far(record_property):
    record_property("found", float("inf"))
    assert not "far from it", "inf ids that differ, 0 allowed"

def test_not_here():
    pytest.skip("FAISS sees no GPU")

@pytest.fixture
def refused():
    raise ImportError("libcudart.so.12")

def test_a_fixture_that_fails(refused):
    pass

@pytest.mark.gpu
def test_only_on_a_gpu():
    raise AssertionError

def test_settings_of_the_run(request):
    assert request.config.pluginmanager.get_plugin("tandem-bench-gpu").task.settings.seed == 7
"""


@pytest.fixture
def tests_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where `tandem bench gpu` looks for tests."""
    monkeypatch.setattr(checking, "ROOT", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\nmarkers = ["gpu: needs a CUDA device"]\naddopts = "--import-mode=importlib"\n'
    )
    return tmp_path / "tests"


def test_a_test_is_a_row_of_what_it_recorded_or_why_it_failed(tests_of: Path):
    (tests_of / "test_all_kinds.py").write_text(CHECKED)
    found = {
        row["check"]: row
        for row in checking.tested("test_all_kinds.py", task("tests", "last", replace(DRY_RUN, seed=7)))
    }
    assert found["scan against numpy"] == {
        "check": "scan against numpy", "passed": True, "tests": 3, "found": 0.25, "allowed": 0.5,
    }  # fmt: skip
    worst = found["some are too far"]
    assert (worst["passed"], worst["found"]) == (False, 2)
    assert "2 ids that differ" in worst["error"], "the error is that of the figure"
    assert found["a fault"]["passed"] is False
    assert found["a fault"]["error"].endswith("DeviceError: the GPU stopped working during a scan")
    assert (found["too far"]["passed"], found["too far"]["found"]) == (False, float("inf"))
    assert "inf ids that differ, 0 allowed" in found["too far"]["error"]
    assert (found["not here"]["passed"], found["not here"]["error"]) == (None, "not run: FAISS sees no GPU")
    assert found["a fixture that fails"]["passed"] is False
    assert found["settings of the run"]["passed"] is True
    assert "only on a gpu" not in found


@pytest.mark.parametrize(
    ("words", "passed", "error"),
    [
        ("import no_such_library", None, "ModuleNotFoundError: No module named 'no_such_library'"),
        ("import", False, "SyntaxError"),
        ("", None, "not run: pytest ended with NO_TESTS_COLLECTED"),
        (None, None, "not run: the tests are not here"),
    ],
)
def test_a_file_without_tests_that_run_says_why(tests_of: Path, words: str | None, passed: bool | None, error: str):
    name = f"test_{tests_of.parent.name}.py"  # pytest imports a name once
    if words is not None:
        (tests_of / name).write_text(words)
    (row,) = checking.tested(name, task("tests", "last"))
    assert row["passed"] is passed
    assert error in row["error"]


def test_faiss_is_checked_in_a_process_of_its_own():
    found = {turn: [case.label for case in cases(task("checks", turn))] for turn in ("first", "then")}
    assert found == {"first": ["bench/gpu/test_oracles.py"], "then": ["bench/gpu/test_faiss.py"]}


def test_the_tests_of_kernels_and_engine_are_parts_of_the_run():
    labels = [case.label for case in cases(task("tests", "last", Settings()))]
    assert {"kernels/test_scan.py", "kernels/test_graph.py", "engine/test_on_gpu.py"} <= set(labels)
    assert "engine/recall/test_gpu.py" in labels
    assert "engine/test_engine.py" not in labels, "it has nothing for a GPU"


def test_without_a_collection_that_section_says_so_and_fails_nothing():
    (case,) = cases(task("engine", "then"))
    (row,) = case.run()
    assert row["passed"] is None
    assert "--collection" in row["error"]
