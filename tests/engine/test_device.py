from __future__ import annotations

import logging
from pathlib import Path

import onnxruntime
import pytest

from tandem.engine import device
from tandem.engine.errors import DeviceError, InputError


def test_auto_without_a_gpu_lands_on_the_cpu_loudly(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with caplog.at_level(logging.WARNING):
        chosen = device.choose("auto")
    assert chosen.kind == "cpu"
    assert "CUDA" in chosen.reason
    assert "no GPU" in caplog.text


def test_a_gpu_that_was_asked_for_and_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match=r"tandem\[gpu\]"):
        device.choose("cuda")


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
