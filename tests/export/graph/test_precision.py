"""INT8 of a feed-forward with a loud token and a head on the pooled vector, against float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tandem.engine.models.runtime.onnx import cpu_session
from tandem.export.graph.precision import quantise, quieten
from tandem.export.graph.smoothing import NAME as SMOOTHED
from tandem.export.graph.smoothing import Run
from tandem.export.graph.token_scales import NAME as TOKEN_SCALES

WIDTH, CHANNELS, TOKENS = 32, 128, 24


def weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = {"inner": (WIDTH, CHANNELS), "outer": (CHANNELS, WIDTH), "head": (WIDTH, 4)}
    found = {name: random.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    found["head_bias"] = np.ones(4, dtype=np.float32)
    return found


def graph() -> onnx.ModelProto:
    """x → GELU(x · inner) · outer → y; y's first token → head."""
    nodes = [
        helper.make_node("Identity", ["x"], ["x0"], "x0"),
        helper.make_node("MatMul", ["x0", "inner"], ["a"], "inner"),
        helper.make_node("Gelu", ["a"], ["b"], "act"),
        helper.make_node("MatMul", ["b", "outer"], ["y"], "outer"),
        helper.make_node("Gather", ["y", "first"], ["pooled"], "pooled", axis=1),
        helper.make_node("Gemm", ["pooled", "head", "head_bias"], ["score"], "head"),
    ]
    tensors = {**weights(), "first": np.array(0, dtype=np.int64)}
    made = helper.make_graph(
        nodes,
        "ffn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None, WIDTH])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "score")],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=9)


def texts() -> list[np.ndarray]:
    """The first token is loud, and it is loudest in one channel."""
    found = [np.random.default_rng(9 + n).normal(size=(1, TOKENS, WIDTH)).astype(np.float32) for n in range(6)]
    for text in found:
        text[0, 0] *= 4
        text[0, 0, 7] = 40.0
    return found


def run(model: onnx.ModelProto) -> Iterator[list[np.ndarray]]:
    opened = cpu_session(model.SerializeToString(), threads=1)
    for text in texts():
        yield opened.run(None, {"x": text})


def oracle(text: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    w = {name: array.astype(np.float64) for name, array in weights().items()}
    inside = text.astype(np.float64) @ w["inner"]
    return 0.5 * inside * (1 + erf(inside / np.sqrt(2))) @ w["outer"]


def error(file: Path) -> float:
    """The mean error of the tokens behind the first."""
    opened = cpu_session(file, threads=1)
    return float(np.mean([np.abs(opened.run(None, {"x": x})[0] - oracle(x))[0, 1:].mean() for x in texts()]))


def one_scale_a_run(file: Path) -> None:
    """What ONNX Runtime's quantisation makes of the graph by itself."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        graph(), file, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True, "WeightSymmetric": True},
    )  # fmt: skip


def to_int8(model: onnx.ModelProto, file: Path, run: Run, keep: Sequence[str] = ()) -> dict[str, int]:
    found = quieten(model, run, keep)
    onnx.save(model, file.with_name("whole.onnx"))
    quantise(file.with_name("whole.onnx"), file, keep)
    return found


def test_a_loud_token_leaves_the_others_their_levels(tmp_path: Path):
    found = to_int8(graph(), tmp_path / "int8.onnx", run)
    one_scale_a_run(tmp_path / "one.onnx")
    assert found == {SMOOTHED: 1, TOKEN_SCALES: 1}
    assert error(tmp_path / "int8.onnx") < error(tmp_path / "one.onnx") / 2


def test_products_of_pooled_vectors_stay_fp32(tmp_path: Path):
    to_int8(graph(), tmp_path / "int8.onnx", run)
    opened = cpu_session(tmp_path / "int8.onnx", threads=1)
    for text in texts():
        y, score = opened.run(None, {"x": text})
        np.testing.assert_allclose(score, y[:, 0] @ weights()["head"] + 1.0, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("keep", [[], ["outer"], ["inner", "outer"]])
def test_what_is_to_be_kept_is(keep: list[str], tmp_path: Path):
    to_int8(graph(), tmp_path / "int8.onnx", run, keep=keep)
    kinds = [node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node]
    assert kinds.count("MatMul") == len(keep) + 1  # the head, which was a Gemm
