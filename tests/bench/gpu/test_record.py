"""The document of `tandem bench gpu`: what is kept, what is judged, and that it is JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tandem.bench.document import plain
from tandem.bench.gpu.record import RunRecord, passed
from tandem.bench.gpu.targets import targets

HERE = {"gpu": "H100", "commit": "abc", "packages": {"numpy": "2"}, "cpu": "x", "cores": 1, "load": 0,
        "python": "3"}  # fmt: skip


def record(folder: Path, **environment: Any) -> RunRecord:
    return RunRecord(folder / "gpu", dry=False, environment={**HERE, **environment})


def filled(folder: Path, **environment: Any) -> RunRecord:
    made = record(folder, **environment)
    for name in ("floors", "kernels"):
        made.begin(name)
        made.row(name, {"op": "x", "what": "x", "who": "ours", "us": 1.0, "device GiB": 3.0})
        made.end(name, 1.0, None)
    return made


def section(*rows: dict[str, Any], error: str | None = None) -> dict[str, Any]:
    return {"seconds": 1.0, "error": error, "peak GiB": None, "rows": list(rows)}


@pytest.mark.parametrize("odd", [float("inf"), float("nan"), np.float32("-inf")])
def test_a_number_that_is_not_finite_is_none_and_told_of(tmp_path: Path, odd: float):
    made = record(tmp_path)
    made.begin("checks")
    made.row("checks", {"check": "x", "passed": False, "found": odd})
    (row,) = json.loads((tmp_path / "gpu.json").read_text(), parse_constant=pytest.fail)["sections"]["checks"]["rows"]
    assert row == {"check": "x", "passed": False, "found": None, "not finite": f"found is {float(odd)}"}
    assert "not finite" in (tmp_path / "gpu.md").read_text()
    json.dumps(made.document(), allow_nan=False)


def test_rows_are_of_jsons_types():
    row = plain({"a": np.int64(3), "b": np.float32(0.5), "c": True, "d": Path("x"), "e": None})
    assert row == {"a": 3, "b": 0.5, "c": True, "d": "x", "e": None}
    assert json.loads(json.dumps(row)) == row


def test_a_second_call_keeps_the_sections_it_does_not_measure(tmp_path: Path):
    filled(tmp_path)
    again = record(tmp_path)
    assert again.note is None
    again.begin("kernels")
    again.row("kernels", {"op": "y", "who": "ours", "us": 2.0})
    found = json.loads((tmp_path / "gpu.json").read_text())["sections"]
    assert [row["op"] for row in found["kernels"]["rows"]] == ["y"]
    assert [row["what"] for row in found["floors"]["rows"]] == ["x"]


def test_two_parts_of_a_section_add_up(tmp_path: Path):
    made = filled(tmp_path)
    made.begin("kernels")
    made.row("kernels", {"op": "y", "who": "ours", "us": 2.0, "device GiB": 1.0})
    made.end("kernels", 2.0, "stopped")
    found = made.document()["sections"]["kernels"]
    assert (len(found["rows"]), found["seconds"], found["error"], found["peak GiB"]) == (2, 3.0, "stopped", 3.0)


@pytest.mark.parametrize("change", [{"commit": "def"}, {"gpu": "A100"}, {"packages": {"numpy": "3"}}])
def test_results_of_other_code_or_cards_are_replaced_and_that_is_said(tmp_path: Path, change: dict[str, Any]):
    filled(tmp_path)
    again = record(tmp_path, **change)
    assert again.sections == {}
    assert "were replaced" in (again.note or "")
    again.write()
    assert "were replaced" in (tmp_path / "gpu.md").read_text()


def test_code_that_is_not_committed_is_kept_with_a_doubt(tmp_path: Path):
    filled(tmp_path, commit="abc-dirty")
    again = record(tmp_path, commit="abc-dirty")
    assert set(again.sections) == {"floors", "kernels"}
    assert "may be of other code" in (again.note or "")


def test_a_file_that_is_no_result_does_not_stop_a_run(tmp_path: Path):
    (tmp_path / "gpu.json").write_text("{")
    assert "could not be read" in (record(tmp_path).note or "")


def test_a_part_without_time_keeps_what_an_earlier_run_had(tmp_path: Path):
    filled(tmp_path)
    again = record(tmp_path)
    again.left_out("kernels", "no time")
    again.left_out("rivals", "no time")
    found = again.document()["sections"]
    assert found["kernels"]["rows"]
    assert found["rivals"]["error"] == "no time"


def test_times_are_compared_on_the_same_pairs(tmp_path: Path):
    made = record(tmp_path)
    made.begin("rivals")
    for pairs, who, ms in ((8, "others", 6.0), (8, "tandem packed", 2.0), (16, "others", 5.0)):
        made.row("rivals", {"model": "a", "pairs": pairs, "who": who, "p50 ms": ms})
    rows = made.document()["sections"]["rivals"]["rows"]
    assert [row.get("times slower than packed") for row in rows] == [3.0, 1.0, None]


@pytest.mark.parametrize(
    ("checks", "engine", "expected"),
    [
        (None, None, None),
        (section({"passed": True}, {"passed": None}), None, True),
        (section({"passed": None}), None, False),
        (section({"passed": True}, {"passed": False}), None, False),
        (section({"passed": True}, {"error": "its process was ended"}), None, False),
        (section({"passed": True}, error="stopped"), None, False),
        (section({"passed": True}), section({"passed": None}), True),
        (section({"passed": True}), section({"passed": False, "overlap@10": 0.9}), False),
        (section({"passed": True}), section({"error": "DeviceError"}), False),
    ],
)
def test_a_run_passes_by_its_checks_and_the_engines_overlap(checks: Any, engine: Any, expected: bool | None):
    found = {"checks": checks, "engine": engine}
    assert passed({name: each for name, each in found.items() if each is not None}) is expected


ROWS: dict[str, Any] = {
    "latency": section(
        {"model": "MiniLM-L6-shaped", "passages": 1_000_000, "tokens": 64, "candidates": 100, "p50 ms": 1, "p99 ms": 1},
        {
            "model": "MiniLM-L6-shaped", "passages": 1_000_000, "tokens": 128, "candidates": 100, "p50 ms": 1.9,
            "p99 ms": 4.1,
        },
    ),
    "kernels": section(
        {"case": "scan 1,000,000 × 384, 1 queries", "share of peak": 0.1},
        {"case": "scan 10,000,000 × 384, 16 queries", "share of peak": 0.2},
        {"case": "scan 10,000,000 × 384, 1 queries", "error": "a fault"},
        {"case": "scan 10,000,000 × 384, 1 queries", "share of peak": 0.8},
    ),
    "rivals": section(
        {"model": "MiniLM-L6-shaped", "pairs": 100, "who": "tandem packed", "pairs/s": 20_000},
        {"model": "MiniLM-L6-shaped", "pairs": 8192, "who": "tandem packed", "pairs/s": 90_000},
        {"model": "MiniLM-L6-shaped", "pairs": 8192, "who": "tandem packed, from texts", "pairs/s": 45_000},
        {"model": "MiniLM-L6-shaped", "pairs": 8192, "who": "sentence-transformers FP16", "pairs/s": 5_000},
        {"model": "MiniLM-L6-shaped", "pairs": 8192, "who": "tandem ONNX Runtime", "pairs/s": 30_000},
        {"model": "MiniLM-L6-shaped", "pairs": 8192, "who": "plain ONNX Runtime", "error": "not here"},
        {"model": "bert-base-shaped", "pairs": 1024, "who": "tandem packed", "share of matmul rate": 0.45},
    ),
}  # fmt: skip


def test_targets_are_judged_by_the_rows_they_are_about():
    found = targets(ROWS)
    assert [row["measured"] for row in found] == [1.9, 4.1, 90_000, 9.0, 0.45, 1.25, None]
    assert [row["passed"] for row in found] == [True, False, True, False, True, True, None]
    assert [row["target"] for row in found] == ["≤ 2", "≤ 4", "≥ 80,000", "≥ 10", "≥ 0.45", "≤ 1.5", "≥ 2"]


def test_without_rows_no_target_is_judged():
    assert {row["passed"] for row in targets({})} == {None}
    assert all(row["measured"] is None for row in targets({}))


def test_the_scan_that_a_target_is_about_is_one_of_the_kernels_cases():
    torch = pytest.importorskip("torch")
    from tandem.bench.gpu.targets import _is_scan
    from tandem.bench.kernels.cases import WHOLE, cases

    names = [case.name for case in cases(WHOLE, torch.device("meta"), torch.float16)]
    assert sum(map(_is_scan, names)) == 1
