"""How `tandem bench gpu` measures: callers, the order of cases, the card, what is missing."""

from __future__ import annotations

import json
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from tandem.bench.gpu import device as card  # noqa: E402
from tandem.bench.gpu import rivals as contestants  # noqa: E402
from tandem.bench.gpu import search as searches  # noqa: E402
from tandem.bench.gpu.kernels import kernels, rates  # noqa: E402
from tandem.bench.gpu.plan import PLAN, SECTIONS, Task, cases  # noqa: E402
from tandem.bench.gpu.rivals import COMPILED, FROM_TEXTS, OURS, OURS_ONNX, PLAIN_ONNX  # noqa: E402
from tandem.bench.gpu.settings import DRY_RUN, Settings  # noqa: E402
from tandem.bench.random_models.artifacts import made  # noqa: E402
from tandem.bench.random_models.shapes import BERT_BASE, MODERNBERT_BASE, TINY, XLMR_LARGE  # noqa: E402
from tandem.bench.roofline import Rates  # noqa: E402
from tandem.engine.errors import DeviceError  # noqa: E402
from tandem.engine.scheduling.cost_model import CostModel  # noqa: E402
from tandem.engine.text.tokens import TokenBatch  # noqa: E402


def task(section: str, turn: Any, settings: Settings | None = None, scratch: Path = Path()) -> Task:
    return Task(section, turn, settings or DRY_RUN, scratch)


class Batcher:
    """Answers at once."""

    def __init__(self, fails: int = 0) -> None:
        self._fails = fails

    def submit(self, job: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._fails -= 1
        future.set_result(SimpleNamespace(results=[DeviceError("broken") if self._fails >= 0 else "found"]))
        return future

    def close(self) -> None:
        pass


SEARCH: Any = SimpleNamespace(cost=CostModel(call=1e-3, token=0.0, square=0.0, tokens=4096))
JOBS = [TokenBatch(np.array([row], np.int32), np.array([0, 1])) for row in range(8)]


@pytest.mark.parametrize("fails", [0, 1, 10**6])
def test_callers_that_end_early_are_told_and_without_an_answer_there_is_no_row(
    monkeypatch: pytest.MonkeyPatch, fails: int
):
    monkeypatch.setattr(searches, "Batcher", lambda **_: Batcher(fails))
    few = replace(DRY_RUN, concurrency_seconds=0.05)
    shape, asked = (
        few.workload(TINY, 100, 24),
        Task("throughput", "then", few, Path(), rates=Rates({"fp32": 1e12}, 1e9, {})),
    )
    measured = searches._throughput(SEARCH, JOBS, 2, shape, asked)
    if fails > 2:
        with pytest.raises(DeviceError, match="broken"):
            next(measured)
        return
    row = next(measured)
    assert row["samples"] > 8, "the queries are asked again and again"
    assert row["pairs/s"] == few.candidates * row["searches/s"]
    assert row["share of matmul rate"] > 0
    assert row.get("error") == (f"{fails} of 2 callers ended early: DeviceError: broken" if fails else None)


def test_rows_that_targets_are_about_come_first_and_slow_ones_last():
    def labels(section: str, turn: str) -> list[str]:
        return [case.label for case in cases(task(section, turn, Settings()))]

    assert labels("latency", "first") == ["MiniLM-L6-shaped, 1000000, 128, 100"]
    assert [label.split(",")[0] for label in labels("latency", "last")] == [XLMR_LARGE.name, MODERNBERT_BASE.name]
    first = labels("rivals", "first")
    assert f"MiniLM-L6-shaped, 8192, {FROM_TEXTS}" in first
    assert f"{BERT_BASE.name}, 1024, {OURS}" in first
    assert not any(COMPILED in label or XLMR_LARGE.name in label for label in first + labels("rivals", "then"))
    every = [label for turn in ("first", "then", "last") for label in labels("rivals", turn)]
    assert len(set(every)) == len(every) == 5 * 2 * 7
    order = list(PLAN)
    assert order[:2] == [("checks", "first"), ("checks", "then")]
    assert {section for section, _ in PLAN} == set(SECTIONS)
    assert order.index(("kernels", "first")) < order.index(("kernels", "then")) < order.index(("kernels", "last"))


def test_kernels_that_cannot_be_made_cost_their_group(monkeypatch: pytest.MonkeyPatch):
    from tandem.bench.kernels import cases as kernel_cases

    def refuse(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(kernel_cases, "_embed_norm", refuse)
    made = list(kernels(task("kernels", "then")))
    (failed,) = (case for case in made if case.about["case"].startswith("the cases of"))
    others = [case for case in made if case is not failed]
    named = [case.about["case"] for case in others]
    assert [name.split()[0] for name in named[:3]] == ["pack", "layout", "topk"]
    assert {name.split()[1] for name in named[3:]} == {"windows", "causal"}, "the groups behind it are measured"
    assert failed.about == {"case": "the cases of tiny"}
    with pytest.raises(RuntimeError, match="out of memory"):
        list(failed.run())
    assert [case.about["case"].split()[0] for case in kernels(task("kernels", "first"))] == ["scan"] * 3


def test_without_the_onnx_package_those_are_missing_who_want_a_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(contestants, "find_spec", lambda name: None)
    small = replace(DRY_RUN, throughput_pairs=4, candidates=4, repeats=3)
    graphs = {OURS_ONNX, PLAIN_ONNX}
    for case in cases(task("rivals", "first", small, tmp_path)):
        if case.about["who"] in graphs:
            with pytest.raises(ImportError, match="with the package onnx"):
                list(case.run())
        elif case.about["who"] == OURS:
            (row,) = case.run()
            assert row["pairs/s"] > 0


def test_floors_that_are_not_all_there_are_none():
    copy, product = {"what": "copy", "rate": 2.0}, {"what": "product", "rate": 3.0}
    found = rates([copy, {"what": "read", "rate": 9.0}, product], dry=False)
    assert found == Rates({"fp16": 3e12}, 2e12, {"fp16": "PyTorch"})
    assert rates([copy], dry=False) is None
    assert rates([copy, {"what": "product", "error": "out of memory"}], dry=False) is None
    assert rates([], dry=True) is None


def test_a_model_that_an_earlier_process_made_is_opened(tmp_path: Path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_text("cut off")
    first = made(folder, TINY, "cross-encoder", seed=1, graphs=("fp32",))
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    again = made(folder, TINY, "cross-encoder", seed=1, graphs=("fp32",))
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    assert first.path == again.path


def test_a_task_survives_json(tmp_path: Path):
    for settings in (Settings(), replace(DRY_RUN, seed=3)):
        given = Task("kernels", "last", settings, tmp_path, tmp_path / "c", Rates({"fp16": 1e12}, 2e12, {"fp16": "x"}))
        assert Task.of(json.loads(json.dumps(given.order()))) == given


def test_a_row_tells_what_is_taken_of_the_card(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (3 * 2**30, 10 * 2**30))
    assert card.used(Settings()) == {"device GiB": 7.0}
    assert card.used(DRY_RUN) == {}

    def broken() -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "mem_get_info", broken)
    assert card.used(Settings()) == {}


def test_a_broken_context_is_noticed(monkeypatch: pytest.MonkeyPatch):
    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(card.cuda_driver, "torch_problem", lambda: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    there = replace(Settings(), device="meta")
    monkeypatch.setattr(torch, "ones", lambda *args, **kwargs: torch.full((8,), 1.0))
    assert card.works(there)
    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    assert not card.works(there)
    monkeypatch.setattr(card.cuda_driver, "torch_problem", lambda: "torch is not installed")
    assert card.works(there), "nothing is known of it, so the next case may try"
