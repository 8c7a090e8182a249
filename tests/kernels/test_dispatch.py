"""Which implementation answers, and on which GPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tandem.kernels import dispatch


def on(device: str) -> Any:
    """What `fused` looks at of a tensor there."""
    return SimpleNamespace(is_cuda=device.startswith("cuda"), device=torch.device(device))


def test_a_tensor_on_another_gpu_than_the_current_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "interpreting", False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert dispatch.fused(on("cuda:1"))
    with pytest.raises(ValueError, match=r"on cuda:0 and the current device is cuda:1; enter torch\.cuda\.device\(0\)"):
        dispatch.fused(on("cuda:0"))


def test_a_tensor_on_the_cpu_asks_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: pytest.fail("CUDA was asked"))
    monkeypatch.setattr(dispatch, "interpreting", False)
    assert not dispatch.fused(on("cpu"))
    monkeypatch.setattr(dispatch, "interpreting", True)
    assert dispatch.fused(on("cpu"))
