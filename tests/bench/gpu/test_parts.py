"""Parts of `tandem bench gpu` in processes of their own, some of which die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tandem.bench.gpu import parts
from tandem.bench.gpu import worker as working
from tandem.bench.gpu.parts import work_apart
from tandem.bench.gpu.plan import Case, Task
from tandem.bench.gpu.run import run
from tandem.bench.gpu.settings import DRY_RUN, Settings
from tandem.bench.roofline import Rates
from tandem.cli import main
from tandem.engine.errors import InputError

# A worker whose section `kernels` is what a test wants of it: {CASES} are (name, statement) pairs.
SCRIPT = """
import os, signal, sys, time
from tandem.bench.gpu import worker
from tandem.bench.gpu.plan import Case

def case(name, statement):
    def run():
        yield {{"us": 1.0}}
        exec(statement)
        yield {{"us": 2.0}}
    return Case({{"op": name, "who": "ours"}}, run)

worker.cases = lambda task: (case(*each) for each in {cases!r})
{extra}
worker.main()
"""


def command(*cases: tuple[str, str], extra: str = "") -> list[str]:
    return [sys.executable, "-c", SCRIPT.format(cases=cases, extra=extra)]


def told(tmp_path: Path, command: list[str], *, seconds: float = 60.0, **settings: Any) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    task = Task("kernels", "then", replace(DRY_RUN, **settings), tmp_path)
    work_apart(task, messages.append, seconds=seconds, log=tmp_path / "log", command=command)
    return messages


def test_a_process_that_dies_costs_the_case_it_was_at(tmp_path: Path):
    dies = ("b", "print('cannot go on', file=sys.stderr, flush=True); os.kill(os.getpid(), signal.SIGKILL)")
    *rows, end = told(tmp_path, command(("a", ""), dies, ("c", "")))
    assert end == {"end": None}
    assert [(row["row"]["op"], row["row"].get("us")) for row in rows] == [
        ("a", 1.0), ("a", 2.0), ("b", 1.0), ("b", None), ("c", 1.0), ("c", 2.0),
    ]  # fmt: skip
    assert rows[3]["row"]["error"] == "its process was ended by SIGKILL: cannot go on"
    assert "cannot go on" in (tmp_path / "log").read_text()


def test_a_fault_in_a_library_says_how_it_ended(tmp_path: Path):
    *rows, end = told(tmp_path, command(("a", "os.abort()")))
    assert "its process was ended by SIGABRT: Fatal Python error: Aborted" in rows[-1]["row"]["error"]
    assert end == {"end": None}


def test_a_case_that_hangs_is_ended_and_the_next_one_measured(tmp_path: Path):
    messages = told(tmp_path, command(("a", "time.sleep(600)"), ("b", "")), case_seconds=5.0)
    errors = [message["row"]["error"] for message in messages if "error" in message.get("row", {})]
    assert errors == ["ended as stuck: nothing was heard for 5 s"]
    assert messages[-2]["row"] == {"op": "b", "who": "ours", "us": 2.0}


def test_a_case_that_runs_far_past_the_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "GRACE_SECONDS", 0.5)
    *rows, end = told(tmp_path, command(("a", "time.sleep(600)"), ("b", "")), seconds=5.0)
    assert rows[-1]["row"] == {"op": "a", "who": "ours", "error": "ended when the minutes given were well over"}
    assert end == {"end": working.OVER}


def test_a_machine_where_every_case_dies_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "PROCESSES", 2)
    dies = [(name, "os.kill(os.getpid(), signal.SIGKILL)") for name in "abc"]
    *rows, end = told(tmp_path, command(*dies))
    assert [row["row"]["op"] for row in rows if "error" in row["row"]] == ["a", "b"]
    assert end == {"end": "given up after 2 processes, each of which ended at a case"}


def test_a_broken_device_is_left_for_a_new_process(tmp_path: Path):
    broken = "worker.works = lambda settings: not os.environ.get('BROKEN')"
    fault = "os.environ['BROKEN'] = '1'; raise RuntimeError('an illegal memory access was encountered')"
    messages = told(tmp_path, command(("a", fault), ("b", ""), extra=broken))
    assert [message["row"].get("error") for message in messages[:-1]] == [
        None, "RuntimeError: an illegal memory access was encountered", None, None,
    ]  # fmt: skip
    assert messages[-1] == {"end": None}


def test_a_part_that_cannot_begin_is_given_up(tmp_path: Path):
    *rows, end = told(tmp_path, [sys.executable, "-c", "raise SystemExit('no such library')"])
    assert rows == [{"row": {"case": "before the first", "error": "its process ended with exit status 1: "
                             "no such library"}}]  # fmt: skip
    assert "nothing further could be begun" in end["end"]


def test_what_a_child_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No look at the hub, the collection and settings as they were."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    extra = """
def told(task):
    offline = os.environ["HF_HUB_OFFLINE"] + os.environ["TRANSFORMERS_OFFLINE"]
    about = {"op": offline, "who": repr(task.settings)}
    yield Case(about, lambda: [{"copy": task.rates.copy, "c": str(task.collection)}])
worker.cases = told
"""
    settings = replace(Settings(device="cpu"), seed=7)
    messages: list[dict[str, Any]] = []
    task = Task("kernels", "then", settings, tmp_path, tmp_path / "c", Rates({}, 2.5, {}))
    work_apart(task, messages.append, seconds=60, log=tmp_path / "log", command=command(extra=extra))
    assert messages[0]["row"] == {
        "op": "11", "who": repr(settings), "copy": 2.5, "c": str(tmp_path / "c"),
    }  # fmt: skip


def test_after_the_minutes_given_nothing_is_begun(tmp_path: Path):
    messages: list[dict[str, Any]] = []
    working.work(Task("floors", "first", DRY_RUN, tmp_path), messages.append, seconds=-1.0)
    assert messages == [{"end": working.OVER}]


def test_a_case_that_raises_ends_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken():
        yield {"a": 1}
        raise ValueError("broken\nmore")

    cases = [Case({"op": "x"}, broken), Case({"op": "y"}, lambda: [{"a": 2}])]
    monkeypatch.setattr(working, "cases", lambda task: cases)
    messages: list[dict[str, Any]] = []
    working.work(Task("kernels", "then", DRY_RUN, tmp_path), messages.append, seconds=60)
    assert [message["row"] for message in messages if "row" in message] == [
        {"op": "x", "a": 1}, {"op": "x", "error": "ValueError: broken"}, {"op": "y", "a": 2},
    ]  # fmt: skip


def test_the_command_in_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The real worker, tiny: floors, which need PyTorch alone."""
    pytest.importorskip("torch")
    arguments = ["tandem", "bench", "gpu", "--dry-run", "--out", str(tmp_path), "--sections", "floors"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    rows = document["sections"]["floors"]["rows"]
    assert [row["unit"] for row in rows] == ["TB/s", "TB/s", "TFLOP/s"]
    assert all(row["rate"] > 0 for row in rows)
    assert document["checks_passed"] is None
    assert json.loads((tmp_path / "gpu-dry-run.json").read_text()) == document


def test_a_run_that_is_terminated_leaves_files_and_no_child(tmp_path: Path):
    script = """
import json, sys
from functools import partial
from tandem.bench.gpu import run as running
from tandem.cli import main
out, command = sys.argv[1:]
running.run = partial(running.run, command=json.loads(command))
sys.argv = ["tandem", "bench", "gpu", "--dry-run", "--sections", "kernels", "--out", out]
main()
"""
    child = command(("a", "time.sleep(600)"), extra=f"""
from pathlib import Path
Path({str(tmp_path / 'child')!r}).write_text(str(os.getpid()))
""")  # fmt: skip
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), json.dumps(child)])
    result = tmp_path / "gpu-dry-run.json"
    end = time.monotonic() + 60
    while time.monotonic() < end and not result.exists():
        time.sleep(0.05)
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(30) == 128 + signal.SIGTERM
    section = json.loads(result.read_text())["sections"]["kernels"]
    assert section["rows"][0]["us"] == 1.0
    assert section["error"] == "interrupted"
    assert "not finished: interrupted" in (tmp_path / "gpu-dry-run.md").read_text()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "child").read_text()), 0)


def test_an_error_does_not_tell_where_files_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def cases(task: Task) -> list[Case]:
        def fail() -> Any:
            raise ValueError(f"{task.scratch}/rivals-tiny and {task.collection} do not fit")

        return [Case({"op": "x"}, fail)]

    monkeypatch.setattr(working, "cases", cases)
    collection = tmp_path / "somebody" / "c"
    document = run(DRY_RUN, tmp_path, collection=collection, sections=["kernels"], command=None)
    assert document["sections"]["kernels"]["rows"][0]["error"] == "ValueError: rivals-tiny and c do not fit"


def test_an_unknown_section_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="unknown section 'kernel'; there are checks, floors"):
        run(DRY_RUN, tmp_path, sections=["kernel"])
