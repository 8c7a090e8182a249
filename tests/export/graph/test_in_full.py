"""Which graphs hold all scores of their attention at once: the engine plans their memory."""

from __future__ import annotations

import pytest
from onnx import ModelProto, helper

from tandem.engine.models.runtime.activations import IN_FULL
from tandem.export.graph.lowering import BLOCKS, counts


def graph(kind: str, *inputs: str, name: str = "a") -> ModelProto:
    return helper.make_model(helper.make_graph([helper.make_node(kind, inputs, ["out"], name)], "g", [], []))


@pytest.mark.parametrize(
    ("model", "in_full"),
    [
        (graph("MultiHeadAttention", "q", "k", "v"), 0),
        (graph("MultiHeadAttention", "q", "k", "v", "", "mask", ""), 0),
        (graph("MultiHeadAttention", "q", "k", "v", "", "", "bias"), 1),
        (graph("GroupQueryAttention", "q", "k", "v"), 0),
        (graph("Softmax", "scores"), 1),
        (graph("MultiHeadAttention", "q", "k", "v", "", "", "bias", name=f"layer.3/{BLOCKS}"), 0),
    ],
)
def test_a_bias_and_products_of_its_own_hold_all_scores(model: ModelProto, in_full: int):
    assert counts(model).get(IN_FULL, 0) == in_full
