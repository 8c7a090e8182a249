"""Products with a scale for each token against the same arithmetic in NumPy."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tandem.engine.models.runtime.onnx import cpu_session
from tandem.export.graph.products import narrowing, products_of
from tandem.export.graph.token_scales import quantise_weights, scale_by_token

CHANNELS, OUTPUTS = 96, 40


def weights(outputs: int = OUTPUTS) -> np.ndarray:
    return np.random.default_rng(outputs).normal(0, 0.3, (CHANNELS, outputs)).astype(np.float32)


def rows(*shape: int) -> np.ndarray:
    """Tokens of very different loudness."""
    x = np.random.default_rng(7).normal(size=(*shape, CHANNELS)).astype(np.float32)
    x *= np.geomspace(0.1, 30.0, shape[-1], dtype=np.float32)[:, None]
    return x


def graph(*, gelu: bool = False, outputs: tuple[int, ...] = (OUTPUTS,)) -> onnx.ModelProto:
    """x, or its GELU, times a matrix for each of `outputs`."""
    act = helper.make_node("Gelu", ["x"], ["h"], "act")
    nodes = [act if gelu else helper.make_node("Identity", ["x"], ["h"], "act")]
    nodes += [helper.make_node("MatMul", ["h", f"w{n}"], [f"y{n}"], f"product{n}") for n in range(len(outputs))]
    made = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(f"y{n}", TensorProto.FLOAT, None) for n in range(len(outputs))],
        [numpy_helper.from_array(weights(size), f"w{n}") for n, size in enumerate(outputs)],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=9)


def scaled(**options: object) -> onnx.ModelProto:
    model = graph(**options)
    assert scale_by_token(model, products_of(model)) == 1
    return model


def run(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    return cpu_session(model.SerializeToString(), threads=1).run(None, {"x": x})


def oracle(x: np.ndarray, zero: int, lowest: np.ndarray) -> np.ndarray:
    scales = np.maximum(x.max(axis=-1, keepdims=True) / (255 - zero), -lowest / zero)
    levels = np.clip(np.rint(x / scales) + zero, 0, 255) - zero
    integers, of_outputs = quantise_weights(weights())
    return scales * (levels @ integers.astype(np.float64)) * of_outputs


@pytest.mark.parametrize("shape", [(1, 9), (3, 9), (4,)])
def test_the_product_is_the_oracles(shape: tuple[int, ...]):
    x = rows(*shape).astype(np.float64)
    expected = oracle(x, 128, x.min(axis=-1, keepdims=True))
    np.testing.assert_allclose(
        run(scaled(), x.astype(np.float32))[0], expected, rtol=1e-3, atol=2e-3 * np.abs(expected).max()
    )


def test_gelu_needs_few_levels_below_zero():
    from scipy.special import erf

    x = rows(1, 9).astype(np.float64)
    h = 0.5 * x * (1 + erf(x / np.sqrt(2)))
    expected = oracle(h, 24, np.full((1, 9, 1), -0.17))
    found = run(scaled(gelu=True), x.astype(np.float32))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3 * np.abs(expected).max())
    error, symmetric = (np.abs(y - h @ weights()).mean() for y in (found, oracle(h, 128, h.min(-1, keepdims=True))))
    assert error < symmetric


def test_a_token_is_what_it_is_alone():
    model, x = scaled(), rows(2, 9)
    together = run(model, x)[0]
    for row in range(2):
        for token in range(9):
            np.testing.assert_array_equal(
                run(model, x[row : row + 1, token : token + 1])[0][0, 0], together[row, token]
            )


def test_a_token_of_zeros_gives_zeros():
    x = rows(1, 9)
    x[0, 4] = 0.0
    found = run(scaled(), x)[0]
    assert np.isfinite(found).all()
    assert not found[0, 4].any()


def test_an_input_that_several_read_is_quantised_once():
    model = scaled(outputs=(OUTPUTS, 16))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("QuantizeLinear") == 1
    assert kinds.count("MatMulIntegerToFloat") == 2
    assert {tensor.name for tensor in model.graph.initializer}.isdisjoint({"w0", "w1"})


@pytest.mark.parametrize(("outputs", "narrow"), [((40,), True), ((96,), False), ((40, 40), True), ((40, 56), False)])
def test_products_narrow_when_all_of_them_together_do(outputs: tuple[int, ...], narrow: bool):
    model = graph(outputs=outputs)
    assert bool(narrowing(model, products_of(model))) == narrow


def test_weights_are_exact_to_half_a_step_and_zeros_stay():
    matrix = weights()
    matrix[:, 3] = 0.0
    levels, scales = quantise_weights(matrix)
    assert np.abs(levels).max() == 127
    assert (np.abs(levels * scales - matrix) <= scales * 0.501).all()
    assert not levels[:, 3].any()
