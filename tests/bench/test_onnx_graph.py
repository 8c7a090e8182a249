"""Graphs written byte by byte, with both forms of the attention's mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("safetensors")

from tandem.bench.gpu.models import make, weights  # noqa: E402
from tandem.bench.gpu.onnx_graph import write_graph  # noqa: E402
from tandem.bench.gpu.settings import TINY  # noqa: E402
from tandem.engine.models.runtime.onnx import OnnxRuntime, cpu_session  # noqa: E402
from tandem.engine.models.runtime.packed import PackedRuntime  # noqa: E402
from tandem.engine.platform.device import Device  # noqa: E402
from tandem.engine.text.tokens import TokenBatch  # noqa: E402

CPU = Device("cpu", "a test", 1)


def batch(*lengths: int) -> TokenBatch:
    random = np.random.default_rng(0)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    segments = random.integers(0, 2, bounds[-1]).astype(np.uint8)
    return TokenBatch(random.integers(5, TINY.vocabulary, bounds[-1]).astype(np.int32), bounds, segments)


@pytest.mark.parametrize("kind", ["bi-encoder", "cross-encoder"])
def test_both_masks_give_the_model(tmp_path: Path, kind: Any):
    """The oracle is the packed runtime, which pads nothing; rows are padded to other lengths, and one is alone."""
    artifact = make(tmp_path / "model", TINY, kind, seed=3, graphs=())
    head: Any = "logit" if kind == "cross-encoder" else "mean"
    oracle = PackedRuntime.open(artifact, head=head, device=CPU)
    tensors = weights(TINY, kind, torch.Generator().manual_seed(3))
    graphs = {starts: tmp_path / f"starts {starts}.onnx" for starts in (True, False)}
    for starts, path in graphs.items():
        write_graph(path, tensors, TINY, kind, half=False, starts=starts)
        onnx.checker.check_model(str(path))
    runtimes = {
        starts: OnnxRuntime(path, pad_id=0, head=head, device=CPU, split="operators", alone=False)
        for starts, path in graphs.items()
    }
    for some in (batch(7), batch(3, 30), batch(12, 1, 25, 40, 40)):
        expected, found = oracle.run(some), {starts: runtime.run(some) for starts, runtime in runtimes.items()}
        np.testing.assert_allclose(found[True], expected, atol=2e-5)
        np.testing.assert_array_equal(found[True], found[False])


@pytest.mark.parametrize(("starts", "expected"), [(True, [9, 4, 0, 9, 18, 0, 9, 18]), (False, [9, 4])])
def test_every_attention_reads_the_mask_that_was_asked_for(tmp_path: Path, starts: bool, expected: list[int]):
    """By its numbers: on a CPU nothing reads the starts, and wrong ones would give the right scores."""
    tensors = weights(TINY, "cross-encoder", torch.Generator().manual_seed(3))
    write_graph(tmp_path / "graph.onnx", tensors, TINY, "cross-encoder", half=True, starts=starts)
    model = onnx.load(tmp_path / "graph.onnx")
    (name,) = {node.input[3] for node in model.graph.node if node.op_type == "Attention"}
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT32, [None]))
    padded = batch(9, 4).pad(0)
    feeds = {"input_ids": padded.ids, "attention_mask": padded.mask, "token_type_ids": padded.segments}
    (mask,) = cpu_session(model.SerializeToString(), 1).run([name], feeds)
    assert mask.tolist() == expected
    assert "Shape" not in {node.op_type for node in model.graph.node}
