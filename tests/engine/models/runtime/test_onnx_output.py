"""Where a session's output is pooled; on a CPU the tensor's memory is bound as it would be on a card."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tandem.engine.models.runtime.onnx_output import PooledOutput, WholeOutput, output_for, torch_reaches  # noqa: E402

SHAPE = (3, 5, 4)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])


class Binding:
    """A session's binding that writes at once what a run would write."""

    def __init__(self, hidden: Any) -> None:
        self._hidden = hidden

    def bind_output(self, name: str, place: str, index: int, dtype: Any, shape: tuple[int, ...], pointer: int) -> None:
        assert (name, place, dtype) == ("last_hidden_state", "cpu", np.float32)
        view = (ctypes.c_float * int(np.prod(shape))).from_address(pointer)
        np.frombuffer(view, np.float32).reshape(shape)[:] = self._hidden


@pytest.mark.parametrize("head", ["mean", "cls"])
def test_rows_are_pooled_from_the_memory_that_was_bound(head: Any):
    hidden = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    output = PooledOutput(head, SHAPE, "cpu")
    output.bind(Binding(hidden), "last_hidden_state")
    means = np.stack([hidden[0].mean(axis=0), hidden[1, :2].mean(axis=0)])
    np.testing.assert_allclose(output.rows(MASK), means if head == "mean" else hidden[:2, 0], atol=1e-6)


def test_only_hidden_states_are_pooled_and_only_where_pytorch_is(monkeypatch: pytest.MonkeyPatch):
    assert isinstance(output_for("logit", (3, 1), "cpu"), WholeOutput)
    assert isinstance(output_for("mean", SHAPE, "cpu"), PooledOutput)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert isinstance(output_for("mean", SHAPE, "cpu"), WholeOutput)


@pytest.mark.parametrize("available", [True, False])
def test_a_pytorch_without_cuda_does_not_reach_the_card(monkeypatch: pytest.MonkeyPatch, available: bool):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert torch_reaches("cuda") is available
    assert torch_reaches("cpu")
