"""The graphs of random models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("safetensors")

from tandem.bench.random_models.artifacts import make  # noqa: E402
from tandem.bench.random_models.onnx_graph import random_graph  # noqa: E402
from tandem.bench.random_models.shapes import TINY  # noqa: E402
from tandem.bench.random_models.weights import weights  # noqa: E402
from tandem.engine.models.runtime.onnx import cpu_session  # noqa: E402
from tandem.engine.models.runtime.onnx_cuda import OnnxCudaRuntime  # noqa: E402
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
def test_the_graph_is_the_model(tmp_path: Path, kind: Any):
    """The oracle is the packed runtime, which pads nothing; rows are padded to other lengths, and one is alone."""
    artifact = make(tmp_path / "model", TINY, kind, seed=3, graphs=("fp32", "fp16"))
    for name in ("model.onnx", "model_fp16.onnx"):
        onnx.checker.check_model(str(artifact.path / "onnx" / name))
    oracle = PackedRuntime.open(artifact, device=CPU)
    dimension = artifact.manifest.dimension
    graph = OnnxCudaRuntime(artifact.graph("fp32"), pad_id=0, dimension=dimension, max_length=64, device=CPU)
    for some in (batch(7), batch(3, 30), batch(12, 1, 25, 40, 40)):
        np.testing.assert_allclose(graph.run(some), oracle.run(some), atol=2e-5)


def test_every_attention_reads_the_lengths_and_where_the_rows_start():
    """By its numbers: on a CPU nothing reads the starts, and wrong ones would give the right scores."""
    tensors = weights(TINY, "cross-encoder", torch.Generator().manual_seed(3))
    model = random_graph(tensors, TINY, "cross-encoder", half=True)
    (name,) = {node.input[4] for node in model.graph.node if node.op_type == "MultiHeadAttention"}
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT32, [None]))
    padded = batch(9, 4).pad(0)
    feeds = {"input_ids": padded.ids, "attention_mask": padded.mask, "token_type_ids": padded.segments}
    (mask,) = cpu_session(model.SerializeToString(), 1).run([name], feeds)
    assert mask.tolist() == [9, 4, 0, 9, 18, 0, 9, 18]
    written = {output: node for node in model.graph.node for output in node.output}
    waiting, seen = [name], set()
    while waiting:
        node = written.get(waiting.pop())
        if node is not None:
            seen.add(node.op_type)
            waiting.extend(node.input)
    assert "Shape" not in seen, "what Shape says lies on the CPU, and a graph with a node there cannot be captured"
