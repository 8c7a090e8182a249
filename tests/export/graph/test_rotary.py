"""Rotations become one operator each, where they are rotations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tandem.bench.random_models.families import random_model
from tandem.export.families import FAMILIES
from tandem.export.graph.lowering import counts, lower
from tandem.export.graph.rotary import NAME, join_rotations

from .networks import loaded, traced

ROTATED = ("modernbert", "nomic_bert", "gte", "eurobert", "qwen2", "qwen3", "gemma3_text")
HEADS, LENGTH, WIDTH = 3, 5, 8


@pytest.mark.parametrize("family", ROTATED)
def test_each_layers_queries_and_keys_are_rotated_by_one_operator(family: str, tmp_path: Path) -> None:
    model = random_model(family)
    mode = "lasttoken" if FAMILIES[family].decoder else "cls"
    graph = loaded(traced(model, family, mode, tmp_path, masked=False))
    lower(graph, "cpu")
    assert counts(graph)[NAME] == 2 * model.config.num_hidden_layers
    assert not [node for node in graph.graph.node if node.op_type == "Neg"]


def rotation(*, twice: bool = True, half: int = WIDTH // 2, scaled: float | None = None) -> onnx.ModelProto:
    """x [1, heads, length, width] and angles [1, length, width / 2] → x rotated."""
    constants = {
        "0": [0], "half": [half], "end": [2**62], "last": [3], "one": [1],
    }  # fmt: skip
    other = "angles" if twice else "more"
    nodes = [
        helper.make_node("Add", ["angles", "angles"], ["more"]),
        helper.make_node("Concat", ["angles", other], ["both"], axis=-1),
        helper.make_node("Cos", ["both"], ["cos"]),
        helper.make_node("Sin", ["both"], ["sin"]),
        helper.make_node("Mul", ["cos", "scale"], ["cos_scaled"]),
        helper.make_node("Unsqueeze", ["cos" if scaled is None else "cos_scaled", "one"], ["cos_up"]),
        helper.make_node("Unsqueeze", ["sin", "one"], ["sin_up"]),
        helper.make_node("Slice", ["x", "0", "half", "last"], ["first"]),
        helper.make_node("Slice", ["x", "half", "end", "last"], ["second"]),
        helper.make_node("Neg", ["second"], ["negative"]),
        helper.make_node("Concat", ["negative", "first"], ["turned"], axis=-1),
        helper.make_node("Mul", ["x", "cos_up"], ["a"]),
        helper.make_node("Mul", ["turned", "sin_up"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"], "rotated"),
    ]
    graph = helper.make_graph(
        nodes, "rotation",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, HEADS, None, WIDTH]),
         helper.make_tensor_value_info("angles", TensorProto.FLOAT, [1, None, WIDTH // 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [*(numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()),
         numpy_helper.from_array(np.array(scaled or 1.0, np.float32), "scale")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def computed(model: onnx.ModelProto) -> np.ndarray:
    random = np.random.default_rng(0)
    given = {
        "x": random.standard_normal((1, HEADS, LENGTH, WIDTH)).astype(np.float32),
        "angles": random.standard_normal((1, LENGTH, WIDTH // 2)).astype(np.float32),
    }
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, given)[0]


@pytest.mark.parametrize("scaled", [None, 0.7])
def test_the_operator_computes_the_same(scaled: float | None) -> None:
    model = rotation(scaled=scaled)
    before = computed(model)
    assert join_rotations(model) == 1
    assert [node.op_type for node in model.graph.node].count(NAME) == 1
    np.testing.assert_allclose(computed(model), before, atol=1e-6)


@pytest.mark.parametrize("wrong", [{"twice": False}, {"half": 2}])
def test_what_only_looks_like_one_is_left_alone(wrong: dict[str, object]) -> None:
    model = rotation(**wrong)
    before = model.SerializeToString()
    assert join_rotations(model) == 0
    assert model.SerializeToString() == before
