"""How `tandem bench gpu` measures and checks: clock, callers, contestants' turns, and what a check's row says."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from tandem.bench.gpu import checks as checking  # noqa: E402
from tandem.bench.gpu import clock, engine, searches  # noqa: E402
from tandem.bench.gpu import work as working  # noqa: E402
from tandem.bench.gpu.cases import Task  # noqa: E402
from tandem.bench.gpu.floors import rates  # noqa: E402
from tandem.bench.gpu.memory import used  # noqa: E402
from tandem.bench.gpu.models import made  # noqa: E402
from tandem.bench.gpu.ops import ops  # noqa: E402
from tandem.bench.gpu.rivals import COMPILED, FROM_TEXTS, OURS  # noqa: E402
from tandem.bench.gpu.sections import PLAN, SECTIONS  # noqa: E402
from tandem.bench.gpu.settings import BERT_BASE, TINY, XLMR_LARGE, Settings, dry_run, restored  # noqa: E402
from tandem.engine.errors import DeviceError  # noqa: E402
from tandem.engine.scheduling.cost_model import CostModel  # noqa: E402
from tandem.engine.text.tokens import TokenBatch  # noqa: E402


def task(section: str, turn: Any, settings: Settings | None = None, scratch: Path = Path()) -> Task:
    return Task(section, turn, settings or dry_run(), scratch)


class Fake:
    """A clock that a call moves by so many seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
        self.now, self.calls, self._seconds = 0.0, 0, seconds
        monkeypatch.setattr(clock.time, "perf_counter", lambda: self.now)

    def __call__(self) -> None:
        self.now += self._seconds[min(self.calls, len(self._seconds) - 1)]
        self.calls += 1


def test_a_slow_first_call_does_not_cost_the_warm_up(monkeypatch: pytest.MonkeyPatch):
    """torch.compile: compiling, warming up, recording, and from then on the time that is measured."""
    run = Fake(monkeypatch, 60.0, 9.0, 5.0, 0.1)
    found = clock.wall_ms(run, repeats=3)
    assert found == {"p50 ms": 100.0, "p95 ms": 100.0, "p99 ms": None, "samples": 3}
    assert run.calls == 2 + clock.LEAST_WARM_UP + 3


def test_as_many_samples_as_fit(monkeypatch: pytest.MonkeyPatch):
    run = Fake(monkeypatch, 1.0, 0.01)
    found = clock.wall_ms(run, repeats=2000, seconds=5.0)
    assert found["samples"] == pytest.approx(500, abs=1)
    assert found["p99 ms"] == pytest.approx(10.0)


def test_a_p99_of_few_samples_is_left_out():
    assert clock.percentiles([1.0] * 199)["p99 ms"] is None
    assert clock.percentiles([1.0] * 200)["p99 ms"] == 1.0


@pytest.mark.parametrize("error", [DeviceError("the GPU stopped working during a scan"), ImportError("x"), OSError()])
def test_a_fault_during_a_check_is_a_failure(error: Exception):
    def check() -> dict[str, Any]:
        raise error

    (row,) = checking.judged(check)
    assert row["passed"] is False
    assert type(error).__name__ in row["error"]


def test_what_is_not_here_is_no_failure_and_no_proof(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checking.gpu, "torch_problem", lambda: "triton is not installed")
    monkeypatch.setattr(checking.gpu, "faiss_problem", lambda: "FAISS sees no GPU")
    for check in (checking.scan_check, checking.faiss_check):
        (row,) = checking.judged(lambda check=check: check(Settings()))
        assert row["passed"] is None
        assert row["error"].startswith("not run: ")


def test_a_refused_graph_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """ONNX Runtime has its provider, so that the check can run, and then does not take the graph."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise DeviceError("the GPU refused model.onnx")

    monkeypatch.setattr(checking, "_cross", refuse)
    (row,) = checking.judged(lambda: checking.onnx_check(task("checks", "first", scratch=tmp_path), TINY))
    assert (row["passed"], row["error"]) == (False, "DeviceError: the GPU refused model.onnx")


def hits(rows: list[int], scores: list[float], cosines: list[float]) -> Any:
    return SimpleNamespace(
        rows=np.array(rows), places=np.argsort(np.argsort(-np.array(cosines))), scores=np.array(scores),
        cosines=np.array(cosines),
    )  # fmt: skip


def test_a_hit_is_judged_by_the_oracles_score():
    scores = [9.0, 8, 7, 6, 5, 4, 3, 2, 1, 0.5, 0.49, -3.0]
    oracle = hits(list(range(12)), scores, np.linspace(0.9, 0.6, 12).tolist())
    same = SimpleNamespace(rows=np.arange(10))
    swapped = SimpleNamespace(rows=np.array([*range(9), 10]))  # a tie within half precision
    wrong = SimpleNamespace(rows=np.array([*range(9), 11]))
    twice = SimpleNamespace(rows=np.array([*range(9), 8]))
    assert checking.hits_judged(same, oracle, 12)[:2] == pytest.approx((0.0, 1.0))
    assert checking.hits_judged(swapped, oracle, 12)[:2] == pytest.approx((0.0, 0.9))
    assert checking.hits_judged(wrong, oracle, 12)[:2] == pytest.approx((0.1, 0.9))
    assert checking.hits_judged(twice, oracle, 12)[0] == pytest.approx(0.1)
    assert checking.hits_judged(None, oracle, 12)[0] == 1.0
    # With fewer candidates the last two were not recalled; a hit among them is wrong however well it is scored.
    assert checking.hits_judged(swapped, oracle, 10)[0] == pytest.approx(0.1)


def test_the_checks_know_heads_of_64():
    labels = [case.label for case in checking.checks(task("checks", "first", Settings()))]
    assert "the same, heads of 64" in labels
    wide = checking.WIDE_HEADS
    assert (wide.width // wide.heads, wide.layers) == (64, 2)
    assert checking.MINILM.width // checking.MINILM.heads == 32


def test_faiss_is_checked_in_a_process_of_its_own():
    assert [case.label for case in checking.checks(task("checks", "then"))] == ["FAISS against numpy"]


def test_without_a_collection_that_section_says_so_and_fails_nothing():
    (case,) = engine.engine(task("engine", "then"))
    (row,) = case.run()
    assert row["passed"] is None
    assert "--collection" in row["error"]


class Batcher:
    """Answers at once, and keeps which thread asked what."""

    def __init__(self, fails: bool = False) -> None:
        self.asked: list[tuple[int, int]] = []
        self._fails = fails

    def submit(self, job: Any) -> Future[Any]:
        self.asked.append((threading.get_ident(), int(job.batch.ids[0])))
        future: Future[Any] = Future()
        future.set_result(SimpleNamespace(results=[DeviceError("broken") if self._fails else "found"]))
        return future


SEARCH = SimpleNamespace(cost=CostModel(call=1e-3, token=0.0, square=0.0, tokens=4096))
JOBS = [TokenBatch(np.array([row], np.int32), np.array([0, 1])) for row in range(8)]


def test_callers_ask_queries_of_their_own():
    """Nobody is answered by another's: a caller has its share of the queries, and asks it again and again."""
    batcher = Batcher()
    times, seconds, errors = searches.offered(batcher, SEARCH, JOBS, 2, 0.05)
    assert len(times) == len(batcher.asked) > 8
    assert 0.04 < seconds < 10
    assert not errors
    shares = [{asked for caller, asked in batcher.asked if caller == each} for each, _ in batcher.asked]
    assert sorted(map(sorted, set(map(frozenset, shares)))) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_callers_error_is_told():
    times, _, errors = searches.offered(Batcher(fails=True), SEARCH, JOBS, 2, 0.05)
    assert times == []
    assert [str(error) for error in errors] == ["broken", "broken"]


def test_an_error_of_every_caller_is_the_rows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(searches, "offered", lambda *args: ([], 1.0, [DeviceError("broken")]))
    with pytest.raises(DeviceError, match="broken"):
        next(searches._throughput(SEARCH, JOBS, 2, task("throughput", "then")))
    monkeypatch.setattr(searches, "offered", lambda *args: ([1.0, 2.0], 1.0, [DeviceError("broken")]))
    row = next(searches._throughput(SEARCH, JOBS, 2, task("throughput", "then")))
    assert row["searches/s"] == 2.0
    assert row["error"] == "1 of 2 callers ended early: DeviceError: broken"


def test_rows_that_targets_are_about_come_first_and_slow_ones_last():
    def labels(section: str, turn: str) -> list[str]:
        return [case.label for case in SECTIONS[section](task(section, turn, Settings()))]

    assert labels("latency", "first") == ["MiniLM-L6-shaped, 1000000, 128, 100"]
    assert [label.split(",")[0] for label in labels("latency", "last")] == [XLMR_LARGE.name]
    first = labels("rivals", "first")
    assert f"MiniLM-L6-shaped, 8192, {FROM_TEXTS}" in first
    assert f"{BERT_BASE.name}, 1024, {OURS}" in first
    assert not any(COMPILED in label or XLMR_LARGE.name in label for label in first + labels("rivals", "then"))
    every = [label for turn in ("first", "then", "last") for label in labels("rivals", turn)]
    assert len(set(every)) == len(every) == 3 * 2 * 7
    order = list(PLAN)
    assert order[:2] == [("checks", "first"), ("checks", "then")]
    assert {section for section, _ in PLAN} == set(SECTIONS)
    assert order.index(("kernels", "first")) < order.index(("kernels", "then")) < order.index(("kernels", "last"))


def test_a_kernel_that_cannot_be_made_costs_its_group(monkeypatch: pytest.MonkeyPatch):
    from tandem.bench import kernel_cases

    original = kernel_cases.cases

    def cases(sizes: Any, *args: Any) -> Any:
        if not sizes.vectors:
            raise RuntimeError("out of memory")
        yield from original(sizes, *args)

    monkeypatch.setattr(kernel_cases, "cases", cases)
    (failed,) = ops(task("kernels", "then"))
    with pytest.raises(RuntimeError, match="out of memory"):
        list(failed.run())
    assert [case.about["op"].split()[0] for case in ops(task("kernels", "first"))][:1] == ["scan"]


def test_floors_that_are_not_all_there_are_none():
    copy, product = {"what": "copy", "rate": 2.0}, {"what": "64³ product", "rate": 3.0}
    assert rates([copy, {"what": "read (sum)", "rate": 9.0}, product]) == (2e12, 3e12)
    assert rates([copy]) is None
    assert rates([copy, {"what": "64³ product", "error": "out of memory"}]) is None
    assert rates(None) is None


def test_a_model_that_an_earlier_process_made_is_opened(tmp_path: Path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_text("cut off")
    first = made(folder, TINY, "cross-encoder", seed=1, graphs=("fp32",))
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    again = made(folder, TINY, "cross-encoder", seed=1, graphs=("fp32",))
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    assert first.path == again.path


def test_settings_survive_json():
    for settings in (Settings(), replace(dry_run(), seed=3)):
        assert restored(json.loads(json.dumps(asdict(settings)))) == settings


def test_a_row_tells_what_is_taken_of_the_card(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (3 * 2**30, 10 * 2**30))
    assert used(Settings()) == {"device GiB": 7.0}
    assert used(dry_run()) == {}

    def broken() -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "mem_get_info", broken)
    assert used(Settings()) == {}


def test_a_broken_context_is_noticed(monkeypatch: pytest.MonkeyPatch):
    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(working.gpu, "torch_problem", lambda: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    there = replace(Settings(), device="meta")
    monkeypatch.setattr(torch, "ones", lambda *args, **kwargs: torch.full((8,), 1.0))
    assert working.works(there)
    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    assert not working.works(there)
    monkeypatch.setattr(working.gpu, "torch_problem", lambda: "torch is not installed")
    assert working.works(there), "nothing is known of it, so the next case may try"
