"""Denormal numbers are zero within `as_zero`, in that thread alone, and while a session is made or run."""

from __future__ import annotations

import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tandem.engine.models.runtime.onnx import cpu_session
from tandem.engine.platform import denormals

pytestmark = pytest.mark.skipif(not denormals.SUPPORTED, reason="denormals are left alone on this kind of machine")
TINY = np.array([1e-40], np.float32)


def kept() -> bool:
    """Whether this thread computes with denormal numbers."""
    return bool((TINY * np.float32(1.0))[0] != 0)


def test_they_are_zero_within_and_numbers_again_afterwards() -> None:
    assert kept()
    with denormals.as_zero():
        assert not kept()
        with denormals.as_zero():
            assert not kept()
        assert not kept()
    assert kept()


def test_an_error_within_changes_nothing_afterwards() -> None:
    with pytest.raises(ValueError, match="within"), denormals.as_zero():
        raise ValueError("within")
    assert kept()


def test_other_threads_go_on_as_they_were() -> None:
    begun, seen = threading.Event(), threading.Event()
    found: list[bool] = []

    def other() -> None:
        begun.wait(10)
        found.append(kept())
        seen.set()

    thread = threading.Thread(target=other)
    thread.start()
    with denormals.as_zero():
        begun.set()
        assert seen.wait(10)
    thread.join()
    assert found == [True]


def test_making_and_running_a_session_changes_no_thread() -> None:
    numbers = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Mul", ["x", "x"], ["y"])], "square", numbers[:1], numbers[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    session = cpu_session(model.SerializeToString(), threads=2)
    session.run(None, {"x": TINY})
    assert kept()
