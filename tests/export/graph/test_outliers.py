"""Outlier channels beside an INT8 product: the same function in FP32, a smaller error in INT8."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tandem.engine.models.runtime.onnx import cpu_session
from tandem.export.graph.outliers import MOST, RANK, outliers_of, split_outliers
from tandem.export.graph.precision import to_int8

WIDTH, CHANNELS, TOKENS = 16, 64, 24
LOUD = (5, 40)


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    found = {
        "inner": random.normal(0, 0.3, (WIDTH, CHANNELS)),
        "bias": random.normal(0, 0.1, CHANNELS),
        "outer": random.normal(0, 0.3, (CHANNELS, WIDTH)),
    }
    found["inner"][:, LOUD] *= 0.1
    found["bias"][list(LOUD)] = 30.0  # whatever the text
    return {name: array.astype(np.float32) for name, array in found.items()}


def graph(second: str = "outer") -> onnx.ModelProto:
    """A feed-forward as fused BERT graphs have it; `second`: the weights of a product more, behind it."""
    nodes = [
        helper.make_node("MatMul", ["x", "inner"], ["a"], "inner/MatMul"),
        helper.make_node("Add", ["bias", "a"], ["b"], "inner/Add"),
        helper.make_node("Gelu", ["b"], ["c"], "act", domain="com.microsoft"),
        helper.make_node("MatMul", ["c", "outer"], ["y"], "outer/MatMul"),
    ]
    if second == "shared":
        nodes.append(helper.make_node("MatMul", ["c2", "outer"], ["z"], "again/MatMul"))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, None, WIDTH])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, None, WIDTH])]
    if second == "shared":
        inputs.append(helper.make_tensor_value_info("c2", TensorProto.FLOAT, [1, None, CHANNELS]))
        outputs.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    tensors = [numpy_helper.from_array(array, name) for name, array in weights().items()]
    made = helper.make_graph(nodes, "ffn", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=9)


def texts(count: int = 6) -> list[np.ndarray]:
    return [np.random.default_rng(9 + n).normal(size=(1, TOKENS, WIDTH)).astype(np.float32) for n in range(count)]


def session(model: bytes) -> onnxruntime.InferenceSession:
    """As the engine runs it: on x86 without VNNI, plain sessions clamp the sums and drown what is measured here."""
    return cpu_session(model, threads=1)


def run(model: onnx.ModelProto) -> Iterator[list[np.ndarray]]:
    opened = session(model.SerializeToString())
    for text in texts():
        yield opened.run(None, {"x": text})


def oracle(text: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    w = {name: array.astype(np.float64) for name, array in weights().items()}
    inside = text.astype(np.float64) @ w["inner"] + w["bias"]
    return 0.5 * inside * (1 + erf(inside / np.sqrt(2))) @ w["outer"]


def test_in_fp32_nothing_changes_and_in_int8_the_error_falls(tmp_path: Path):
    whole, split = graph(), graph()
    products = split_outliers(split, run)
    assert len(products) == 2
    onnx.checker.check_model(split)
    opened = session(split.SerializeToString())
    for text in texts():
        np.testing.assert_allclose(opened.run(None, {"x": text})[0], oracle(text), rtol=2e-5, atol=2e-4)
    errors = []
    for model, keep in ((whole, []), (split, products)):
        to_int8(model, tmp_path / "int8.onnx", keep=keep)
        opened = session((tmp_path / "int8.onnx").read_bytes())
        errors.append(np.mean([np.abs(opened.run(None, {"x": text})[0] - oracle(text)).mean() for text in texts()]))
    assert errors[1] < errors[0] / 3, errors


def test_the_split_products_stay_fp32(tmp_path: Path):
    model = graph()
    to_int8(model, tmp_path / "int8.onnx", keep=split_outliers(model, run))
    kinds = [node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node]
    assert kinds.count("MatMul") == 2
    assert kinds.count("MatMulInteger") == 2


def test_only_the_loud_channels_move():
    model = graph()
    split_outliers(model, run)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    before = weights()
    still = np.setdiff1d(np.arange(CHANNELS), LOUD)
    for name, axis in (("inner", 1), ("bias", 0), ("outer", 0)):
        moved = tensors[f"outer/MatMul/outliers/{name}"]
        np.testing.assert_array_equal(moved, before[name].take(LOUD, axis=axis))
        np.testing.assert_array_equal(tensors[name].take(still, axis=axis), before[name].take(still, axis=axis))
        assert not tensors[name].take(LOUD, axis=axis).any()


def test_weights_that_others_read_stay_whole():
    model = graph("shared")
    before = model.SerializeToString()
    assert split_outliers(model, run) == []
    assert model.SerializeToString() == before


@pytest.mark.parametrize(
    ("loud", "found"),
    [([], []), ([3], [3]), ([3, 60], [3, 60]), (list(range(MOST)), list(range(MOST))), (list(range(MOST + 1)), [])],
)
def test_outliers_are_few_and_far_above_the_rest(loud: list[int], found: list[int]):
    maxima = np.linspace(1.0, 1.9, CHANNELS).astype(np.float32)
    maxima[loud] = 4.0
    assert outliers_of(maxima).tolist() == found
    assert outliers_of(maxima[:RANK]).tolist() == []
