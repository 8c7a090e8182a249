"""Embeddings beside a graph while libraries convert it: the same answers, and inputs as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tandem.export.graph import tables
from tandem.export.graph.graph_file import save_graph

WORDS, WIDE = 50, 8


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LARGE", WORDS * WIDE)


def graph() -> onnx.ModelProto:
    """An embedding that is looked up, one that is multiplied with too, and a matrix."""
    rng = np.random.default_rng(0)
    weights = {
        "looked_up": rng.normal(size=(WORDS, WIDE)), "shared": rng.normal(size=(WORDS, WIDE)),
        "matrix": rng.normal(size=(WIDE, WORDS)),
    }  # fmt: skip
    weights["looked_up"][0, 0] = 1e6
    nodes = [
        helper.make_node("Gather", ["looked_up", "ids"], ["first"]),
        helper.make_node("Gather", ["shared", "ids"], ["second"]),
        helper.make_node("Add", ["first", "second"], ["sum"]),
        helper.make_node("MatMul", ["sum", "matrix"], ["product"]),
        helper.make_node("MatMul", ["product", "shared"], ["out"]),
    ]
    made = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", WIDE])],
        [numpy_helper.from_array(each.astype(np.float32), name) for name, each in weights.items()],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"ids": np.arange(1, 9)})[0]


@pytest.mark.parametrize("outside", [False, True])
def test_tables_come_back_as_they_were(tmp_path: Path, outside: bool):
    model, before = graph(), run(graph())
    save_graph(model, tmp_path / "whole.onnx", largest=0 if outside else 2**20)
    assert (tmp_path / "whole.onnx.data").exists() == outside
    assert tables.drop_tables(model) == ["looked_up"]
    assert [entry.name for entry in model.graph.input] == ["ids", "looked_up"]
    assert "looked_up" not in {tensor.name for tensor in model.graph.initializer}
    onnx.checker.check_model(model)
    tables.put_tables(model, ["looked_up"], tmp_path / "whole.onnx")
    assert [entry.name for entry in model.graph.input] == ["ids"]
    np.testing.assert_array_equal(run(model), before)


def test_halved_tables_are_the_nearest_halves_and_finite():
    model = graph()
    whole = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    tables.halve_tables(model)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert (found["looked_up"].dtype, found["shared"].dtype) == (np.float16, np.float32)
    np.testing.assert_array_equal(found["looked_up"][1:], whole["looked_up"][1:].astype(np.float16))
    assert np.isfinite(found["looked_up"]).all()


def test_small_ones_stay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tables, "LARGE", WORDS * WIDE + 1)
    assert tables.drop_tables(graph()) == []
