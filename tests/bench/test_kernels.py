"""`tandem bench kernels`: complete on a CPU at tiny sizes, and its compile report where Triton is installed."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from tandem.bench.kernels import benchmark, timing, tuning
from tandem.bench.kernels.case import KernelCase
from tandem.bench.kernels.contestants import Contestant
from tandem.bench.kernels.timing import each_of
from tandem.cli import main
from tandem.kernels import dispatch

ROW_BY_ROW = ("add_norm", "embed_norm", "gated", "linear_gelu", "pool", "pre_norm", "rope")
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tandem", "bench", "kernels", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_dry_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--device", "cpu") == 0
    told = capsys.readouterr()
    document = json.loads(told.out.splitlines()[-1])
    assert document["dry_run"] is True
    assert "dry run" in told.err
    ops = {case["case"].split()[0] for case in document["cases"]}
    assert ops == {*ROW_BY_ROW, "attention", "single_attention", "layout", "pack", "scan", "topk"}
    for case in document["cases"]:
        assert case["us"] > 0
        assert case["rivals"]
        assert not case["failed"]
        assert all(rival["us"] > 0 for rival in case["rivals"].values())


def test_a_gpu_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run(monkeypatch, "--device", "cuda") == 8
    assert "finds no GPU" in capsys.readouterr().err
    assert run(monkeypatch, "--tune") == 8
    assert run(monkeypatch, "--device", "tpu") == 2


def test_a_rival_that_fails_is_named_and_the_others_are_timed() -> None:
    def missing() -> None:
        raise ImportError("no module of that name")

    timed, failed = each_of({"absent": Contestant(missing), "there": Contestant(lambda: None)}, torch.device("cpu"))
    assert list(timed) == ["there"]
    assert failed == {"absent": "ImportError: no module of that name"}


def test_our_results_are_the_rivals_results() -> None:
    """A rival that computes something else would make its ratio worthless."""
    sizes = benchmark.TINY
    for case in benchmark.cases(sizes, torch.device("cpu"), torch.float32):
        if case.name.startswith(ROW_BY_ROW):
            for rival in case.rivals.values():
                torch.testing.assert_close(case.ours(), rival.call())
        if case.name.startswith(("attention", "single_attention")):
            torch.testing.assert_close(case.ours(), case.rivals["padded sdpa"].call())


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first case's kernel fails, as one that does not fit the card's shared memory would."""

    def fails() -> None:
        raise RuntimeError("out of resource: shared memory")

    def made(*sizes: object) -> Iterator[KernelCase]:
        yield KernelCase("add_norm that fails", fails, {"pytorch": Contestant(lambda: None)}, moved=1)
        yield KernelCase(
            "topk", lambda: time.sleep(0.002), {"alone": Contestant(lambda: time.sleep(0.004), False)}, moved=1
        )

    monkeypatch.setattr(benchmark, "cases", made)


@pytest.mark.usefixtures("broken")
def test_a_kernel_that_fails_costs_its_own_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--device", "cpu") == 1
    told = capsys.readouterr()
    failed, timed = json.loads(told.out.splitlines()[-1])["cases"]
    assert failed["us"] is None
    assert failed["failed"] == {"ours": "RuntimeError: out of resource: shared memory"}
    assert timed["us"] > 1000
    assert timed["rivals"]["alone"]["captured"] is False
    assert 1 < timed["rivals"]["alone"]["slower"] < 4
    assert "shared memory" in told.err
    assert "called by themselves" in told.err


@needs_triton
def test_tuning_launches_every_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.runtime.jit import JITFunction

    launched: set[str] = set()
    monkeypatch.setattr(timing, "clock", lambda rival, device: lambda turn: rival.call() is None or 1.0)
    monkeypatch.setattr(dispatch, "interpreting", True)
    monkeypatch.setattr(JITFunction, "run", lambda kernel, *args, grid, **options: launched.add(str((args, options))))
    meta = torch.device("meta")
    for case in benchmark.cases(benchmark.TINY, meta, torch.float16):
        launched.clear()
        times = tuning.tried(case, meta)
        rule = tuning.RULES.get(case.name.split()[0])
        assert len(times) == (len(rule.candidates) if rule else 0)
        assert None not in times.values()
        assert len(launched) >= len(times)


def test_a_launch_rule_that_fails_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = iter([None, RuntimeError("out of resource"), *[None] * 100])

    def clock(rival: Contestant, device: torch.device) -> Callable[[int], float]:
        error = next(failing)

        def turn(number: int) -> float:
            if error:
                raise error
            return 1.0

        return turn

    monkeypatch.setattr(timing, "clock", clock)
    times = tuning.tried(KernelCase("attention", lambda: None, {}, moved=1), torch.device("cpu"))
    assert [took is None for took in times.values()] == [number == 1 for number in range(len(times))]


@needs_triton
def test_compile_report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import triton

    # As when another one than the installed is put in front of it.
    monkeypatch.setattr(triton, "__version__", "3.6.7")
    assert run(monkeypatch, "--compile", "--only", "add_norm L6") == 0
    told = capsys.readouterr()
    document = json.loads(told.out.splitlines()[-1])
    assert document["compiler"] == "Triton 3.6.7"
    assert "by Triton 3.6.7" in told.err
    assert [(row["kernel"], row["target"], row["spilled"]) for row in document["kernels"]] == [
        ("_add_norm", 80, 0),
        ("_add_norm", 90, 0),
    ]
