"""Long sequences on a CPU: as many at once as memory holds, and what they took is given back."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tandem.engine.errors import InferenceError
from tandem.engine.models.runtime import onnx as runtimes
from tandem.engine.models.runtime.activations import LONG, Activations
from tandem.engine.models.runtime.onnx import OnnxRuntime
from tandem.engine.platform.device import Device
from tandem.engine.text.tokens import TokenBatch, pack

WIDE = 4096
TAKES = Activations(token=4 * WIDE, square=0)
MIB = 2**20


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ids [1, n] → score [1]: the mean of a hidden state of WIDE numbers a token."""
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    random = np.random.default_rng(0)
    weights = {"table": random.normal(size=(100, 64)), "wide": random.normal(size=(64, WIDE))}
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["states"]),
        helper.make_node("MatMul", ["states", "wide"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["positive"]),
        helper.make_node("ReduceMean", ["positive"], ["score"], axes=[1, 2], keepdims=0),
    ]
    made = helper.make_graph(
        nodes,
        "wide",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def opened(graph: Path, threads: int) -> OnnxRuntime:
    return OnnxRuntime(graph, device=Device("cpu", "a test", threads), split="sequences", activations=TAKES)


def sequences(*lengths: int) -> TokenBatch:
    random = np.random.default_rng(0)
    return pack([random.integers(0, 100, length) for length in lengths])


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not say what a process holds")
def test_a_long_run_gives_its_memory_back(graph: Path):
    runtime, long = opened(graph, 1), sequences(8192)
    runtime.run(sequences(100))
    before = resident()
    runtime.run(long)
    assert resident() - before < 32 * MIB
    kept = runtimes.cpu_session(graph, threads=1)
    kept.run(None, {"input_ids": long.ids[None].astype(np.int64)})
    assert resident() - before > 100 * MIB  # what it would have kept: 8,192 times WIDE numbers


@pytest.mark.parametrize(("free", "most"), [(None, 4), (100 * MIB, 4), (99 * MIB, 3), (64 * MIB, 2), (13 * MIB, 1)])
def test_as_many_run_at_once_as_half_of_what_is_free_holds(
    graph: Path, monkeypatch: pytest.MonkeyPatch, free: int | None, most: int
):
    """A sequence of 800 tokens takes 12.5 MiB; of LONG, 16."""
    monkeypatch.setattr(runtimes, "LONG", 700)
    monkeypatch.setattr(runtimes, "free_memory", lambda: free)
    runtime, batch = opened(graph, 4), sequences(*[800] * 8)
    expected = np.concatenate([opened(graph, 1).run(batch.select([row])) for row in range(8)])
    running, peak, lock, run = 0, 0, threading.Lock(), OnnxRuntime._run

    def watched(self: OnnxRuntime, batch: TokenBatch, row: int) -> np.ndarray:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        time.sleep(0.02)
        try:
            return run(self, batch, row)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(OnnxRuntime, "_run", watched)
    np.testing.assert_allclose(runtime.run(batch), expected, rtol=1e-6)
    assert peak == most


def test_what_does_not_fit_is_an_error_of_its_request(graph: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtimes, "free_memory", lambda: 10 * MIB)
    runtime = opened(graph, 2)
    for batch in (sequences(LONG), sequences(5, LONG)):
        with pytest.raises(InferenceError, match=f"a sequence of {LONG} tokens takes .* give shorter texts"):
            runtime.run(batch)
    assert runtime.run(sequences(LONG - 1, 5)).shape == (2,)  # short ones do not ask
