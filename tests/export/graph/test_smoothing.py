"""Loud channels before INT8: the same function in FP32, and an error that is foretold."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tandem.engine.models.runtime.onnx import cpu_session
from tandem.export.graph.products import products_of
from tandem.export.graph.smoothing import Seen, expected_error, factors_of, smooth
from tandem.export.graph.token_scales import quantise_weights

WIDTH, TOKENS = 32, 24
LOUD = (5, 20)


def weights(outputs: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, (WIDTH, outputs)).astype(np.float32)


def graph(loud: float = 30.0) -> onnx.ModelProto:
    """A norm whose output has loud channels, read by two products and added to the second, as in a BERT-like layer."""
    gains = np.ones(WIDTH, dtype=np.float32)
    gains[list(LOUD)] = loud
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gains"], ["normed"], "norm", axis=-1),
        helper.make_node("MatMul", ["normed", "first"], ["a"], "first"),
        helper.make_node("MatMul", ["normed", "second"], ["b"], "second"),
        helper.make_node("Add", ["b", "normed"], ["y"], "residual"),
    ]
    tensors = {"gains": gains, "first": weights(48), "second": weights(WIDTH, 1)}
    made = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None, WIDTH])],
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, [None, None, 48]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None, WIDTH]),
        ],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def texts(count: int = 6) -> list[np.ndarray]:
    return [np.random.default_rng(9 + n).normal(size=(1, TOKENS, WIDTH)).astype(np.float32) for n in range(count)]


def run(model: onnx.ModelProto) -> Iterator[list[np.ndarray]]:
    opened = cpu_session(model.SerializeToString(), threads=1)
    for text in texts():
        yield opened.run(None, {"x": text})


def test_in_fp32_nothing_changes_and_the_loud_channels_are_quiet():
    model = graph()
    before = list(run(model))
    assert smooth(model, products_of(model), run) == 1
    onnx.checker.check_model(model)
    for old, new in zip(before, run(model), strict=True):
        for one, other in zip(old, new, strict=True):
            np.testing.assert_allclose(other, one, rtol=2e-5, atol=2e-4)
    factors = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "normed/smooth/factors"))
    assert (factors[list(LOUD)] < 0.2).all()
    assert (np.delete(factors, LOUD) > 0.4).all()


def test_both_readers_share_one_division_and_the_residual_reads_the_norm():
    model = graph()
    smooth(model, products_of(model), run)
    assert [node.op_type for node in model.graph.node] == ["LayerNormalization", "Mul", "MatMul", "MatMul", "Add"]
    assert "normed" in model.graph.node[-1].input
    assert {tensor.name for tensor in model.graph.initializer}.isdisjoint({"first", "second"})


def test_weights_that_others_read_stay_for_them():
    model = graph()
    model.graph.node.append(helper.make_node("MatMul", ["x", "first"], ["z"], "other"))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    products = products_of(model)
    smooth(model, {"normed": products["normed"]}, run)
    kept = next(tensor for tensor in model.graph.initializer if tensor.name == "first")
    np.testing.assert_array_equal(numpy_helper.to_array(kept), weights(48))


def test_nothing_loud_nothing_changed():
    model = graph(loud=1.0)
    before = model.SerializeToString()
    assert smooth(model, products_of(model), run) == 0
    assert model.SerializeToString() == before


def seen(rows: np.ndarray) -> Seen:
    return Seen(rows.min(axis=0), rows.max(axis=0), np.square(rows).mean(axis=0))


@pytest.mark.parametrize("quiet", [lambda loud: loud / loud, lambda loud: 2.0 / np.maximum(loud, 2.0)])
def test_the_expected_error_is_the_one_that_rounding_makes(quiet: Callable[[np.ndarray], np.ndarray]):
    random = np.random.default_rng(3)
    rows = random.normal(size=(400, WIDTH)).astype(np.float32)
    rows[:, LOUD] *= 20
    factors = quiet(np.abs(rows).max(axis=0)).astype(np.float32)
    matrix = weights(64)
    louder, x = matrix / factors[:, None], rows * factors
    levels, scales = quantise_weights(louder)
    step = (x.max() - x.min()) / 255
    error = (np.rint(x / step) * step) @ (levels * scales) - rows.astype(np.float64) @ matrix
    assert expected_error(seen(rows), [matrix], factors) == pytest.approx(np.square(error).sum(axis=1).mean(), rel=0.15)


def test_channels_that_are_always_zero_are_no_loud_ones():
    rows = np.zeros((9, WIDTH), dtype=np.float32)
    assert factors_of(seen(rows), [weights(8)]) is None
    rows[:, 3] = 5.0
    found = factors_of(seen(rows), [weights(8)])
    assert found is None or np.isfinite(weights(8) / found[:, None]).all()
