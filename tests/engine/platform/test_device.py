from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from tandem.engine.errors import DeviceError, InputError
from tandem.engine.platform import cuda_driver, device

CARD = cuda_driver.Gpu("NVIDIA H100", 80 * 2**30, (9, 0))
NONE = "there is no NVIDIA driver"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Pretends a card, ONNX Runtime's providers, and what PyTorch lacks."""

    def pretend(card: cuda_driver.Gpu | str, providers: list[str], torch_problem: str | None) -> None:
        monkeypatch.setattr(cuda_driver, "find", lambda: card)
        monkeypatch.setattr(cuda_driver, "torch_problem", lambda: torch_problem)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)

    return pretend


def test_auto_without_a_gpu_lands_on_the_cpu_loudly(machine, caplog: pytest.LogCaptureFixture):
    machine(NONE, ["CUDAExecutionProvider", "CPUExecutionProvider"], None)  # the provider alone is no GPU
    with caplog.at_level(logging.WARNING):
        chosen = device.choose("auto")
    assert chosen.kind == "cpu"
    assert NONE in chosen.reason
    assert "no GPU" in caplog.text


def test_a_gpu_that_was_asked_for_and_is_missing_is_an_error(machine):
    machine(NONE, ["CPUExecutionProvider"], None)
    with pytest.raises(DeviceError, match=r"no NVIDIA driver.*tandem\[gpu\]"):
        device.choose("cuda")


def test_a_gpu_that_no_runtime_reaches_is_an_error_with_both_reasons(machine):
    machine(CARD, ["CPUExecutionProvider"], "triton is not installed")
    with pytest.raises(DeviceError, match=r"H100.*no CUDA provider.*triton is not installed"):
        device.choose("cuda")
    assert device.choose("auto").kind == "cpu"


@pytest.mark.parametrize(
    ("providers", "torch_problem", "said"),
    [
        (["CUDAExecutionProvider"], "torch is not installed", "ONNX Runtime has its CUDA provider"),
        (["CPUExecutionProvider"], None, "PyTorch reaches it"),
    ],
)
def test_one_runtime_is_enough(machine, providers: list[str], torch_problem: str | None, said: str):
    machine(CARD, providers, torch_problem)
    chosen = device.choose("auto")
    assert chosen.kind == "cuda"
    assert said in chosen.reason
    assert "80 GiB, sm_90" in chosen.reason


def test_asking_the_driver_does_not_raise():
    found = cuda_driver.find()
    assert isinstance(found, str) or found.memory > 0


@pytest.mark.parametrize("arguments", [("tpu", None), ("cpu", 0)])
def test_unknown_devices_and_thread_counts_are_refused(arguments: tuple):
    with pytest.raises(InputError):
        device.choose(*arguments)


@pytest.mark.parametrize(("content", "cores"), [("max 100000", None), ("150000 100000", 1.5), ("nonsense", None)])
def test_a_containers_quota_is_read(tmp_path: Path, content: str, cores: float | None):
    file = tmp_path / "cpu.max"
    file.write_text(content)
    assert device._cgroup_quota(file) == cores
    assert device._cgroup_quota(tmp_path / "missing") is None


def test_onnx_runtime_keeps_nothing_of_the_machine(tmp_path: Path):
    """Imported by itself it writes an id and a queue of uploads into the user's cache."""
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    for module in ("tandem.engine", "tandem.engine.models.runtime.onnx", "tandem.cli", "tandem.engine.server.worker"):
        subprocess.run([sys.executable, "-c", f"import {module}"], env={**kept, **home}, check=True)
        assert not [path for path in tmp_path.rglob("*") if "icrosoft" in str(path)], module
