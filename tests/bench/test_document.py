"""What a benchmark hands back, keeps and reports."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tandem.bench import environment
from tandem.bench.document import Table, document, load, save, tables, text
from tandem.bench.environment import card, line
from tandem.bench.report import markdown, report
from tandem.engine.errors import InputError

TABLE = Table("Times | here", ["", "ms"], [["ours", 1.2345], ["theirs", None]], ["one a|b", "two"])


def test_a_document_survives_its_file(tmp_path: Path):
    made = document("latency", "how long", workload={"name": "x"}, tables=[TABLE], values=[1, 2.5])
    path = save(made, tmp_path / "new", "Squad dev/x")
    assert path.name == "latency-squad-dev-x.json"
    assert load(path.parent) == {"latency-squad-dev-x": made}
    assert tables(made) == [TABLE]


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}'])
def test_a_file_that_is_no_result_is_named(tmp_path: Path, content: str):
    (tmp_path / "odd.json").write_text(content)
    with pytest.raises(InputError, match=r"odd\.json is not a saved result"):
        load(tmp_path)


def test_a_folder_without_results_says_how_to_make_some(tmp_path: Path):
    with pytest.raises(InputError, match="--save"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("cell", "shown"),
    [(None, ""), ("a", "a"), (12345, "12,345"), (0.012345, "0.0123"), (12.345, "12.3"), (1234.5, "1234")],
)
def test_cells_are_short(cell, shown: str):
    assert text(cell) == shown


def test_markdown_keeps_columns_apart():
    lines = markdown(TABLE).splitlines()
    rows = [row for row in lines if row.startswith("|")]
    assert rows == ["|  | ms |", "|---|---|", "| ours | 1.23 |", "| theirs |  |"]
    assert "* one a\\|b" in lines


def test_the_report_holds_every_table_its_command_and_its_machine(tmp_path: Path):
    for name in ("zebra", "latency"):
        made = document(name, "what it is", workload={"name": "corpus"}, tables=[TABLE] if name == "zebra" else [])
        path = tmp_path / "results" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        # Without pictures, which need matplotlib: a benchmark that has none.
        path.write_text(
            json.dumps({**made, "benchmark": name.replace("latency", "index"), "command": f"tandem {name}"})
        )
    words = report(tmp_path / "results", tmp_path / "RESULTS.md").read_text()
    assert words.index("## index: corpus") < words.index("## zebra: corpus"), "known benchmarks come first"
    assert "| ours | 1.23 |" in words
    assert "`tandem zebra` ([result](results/zebra.json))" in words
    assert line(made["environment"]) in words


def test_the_report_says_which_results_do_not_compare(tmp_path: Path):
    kept = {"a": "11112222", "b": "33334444", "c": None, "d": None}
    for name, weights in kept.items():
        # What says nothing of its reranker may have had another; an index has none.
        of = "index" if name == "d" else "eval"
        made = document(of, "", workload={"weights": {"reranker": weights}}, tables=[])
        made["environment"] |= {"commit": f"{name}" * 7, "day": "2026-01-02"}
        (tmp_path / f"{name}.json").write_text(json.dumps(made))
    words = report(tmp_path, tmp_path / "RESULTS.md").read_text()
    assert "| b | 2026-01-02 | bbbbbbb |" in words
    assert "4 different commits" in words
    assert "3 different rerankers' weights" in words
    assert "different processors" not in words


def test_the_card_tells_of_the_load_before(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(environment, "_load", None)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.25, 0.0, 0.0))
    environment.begin()
    monkeypatch.setattr(os, "getloadavg", lambda: (7.0, 0.0, 0.0))
    assert card()["load"] == 0.25


def test_the_card_tells_what_a_number_depends_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    found = card()
    assert found["variables"]["OPENBLAS_CORETYPE"] == "Haswell"
    assert found["cores"] >= 1
    assert found["memory_gb"] > 0
    assert "numpy" in found["packages"]
    assert "Haswell" in line(found)
