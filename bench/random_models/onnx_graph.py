"""The ONNX graph of a random BERT, with the operators that `export` leaves in a GPU's FP16 graph.

They are MultiHeadAttention, SkipLayerNormalization and BiasGelu. Written node by node, since tracing takes
transformers, which a machine that only measures lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ...engine.models.artifact import Kind
from ...export.graph.builder import Builder
from ...export.graph.row_starts import row_starts
from .shapes import ModelShape

MICROSOFT = "com.microsoft"
EPSILON = 1e-12


def random_graph(tensors: Mapping[str, Any], shape: ModelShape, kind: Kind, *, half: bool) -> ModelProto:
    """The graph of `tensors` (see `weights.weights`): unit vectors of mean pooling, or scores, in FP32."""
    root = "" if kind == "bi-encoder" else "bert."
    graph = _Graph({name.removeprefix(root): tensor.numpy() for name, tensor in tensors.items()}, half)
    hidden, mask = _embed(graph), graph.row_starts()
    for number in range(shape.layers):
        hidden = _layer(graph, f"encoder.layer.{number}", hidden, mask, shape.heads)
    if kind == "cross-encoder":
        first = graph.node("Gather", [hidden, graph.constant(np.array(0, np.int64))], axis=1)
        logits = graph.gemm("classifier", graph.node("Tanh", [graph.gemm("pooler.dense", first)]))
        column = graph.constant(np.array(0, np.int64))
        graph.node("Gather", [graph.node("Cast", [logits], to=TensorProto.FLOAT), column], "score", axis=1)
        return graph.model(helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]))
    _pool(graph, hidden)
    return graph.model(helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", shape.width]))


def _embed(graph: _Graph) -> str:
    """Hidden states of words, positions and segments."""
    length = graph.node("Squeeze", [graph.node("Shape", ["input_ids"], start=1, end=2)])
    zero, one = (graph.constant(np.array(number, np.int64)) for number in (0, 1))
    places = graph.node("Range", [zero, length, one])
    words, positions, segments = (
        graph.node("Gather", [graph.weight(f"embeddings.{table}_embeddings.weight"), rows])
        for table, rows in (("word", "input_ids"), ("position", places), ("token_type", "token_type_ids"))
    )
    placed = graph.node("Add", [words, positions])
    return graph.node(
        "SkipLayerNormalization", [placed, segments, *graph.norm("embeddings")], domain=MICROSOFT, epsilon=EPSILON
    )


def _layer(graph: _Graph, name: str, hidden: str, mask: str, heads: int) -> str:
    parts = [
        graph.node(
            "Add",
            [
                graph.product(f"{name}.attention.self.{part}", hidden),
                graph.weight(f"{name}.attention.self.{part}.bias"),
            ],
        )
        for part in ("query", "key", "value")
    ]
    read = graph.node("MultiHeadAttention", [*parts, "", mask], domain=MICROSOFT, num_heads=heads)
    hidden = graph.add_norm(f"{name}.attention.output", read, hidden)
    wide, bias = graph.product(f"{name}.intermediate.dense", hidden), f"{name}.intermediate.dense.bias"
    wide = graph.node("BiasGelu", [wide, graph.weight(bias)], domain=MICROSOFT)
    return graph.add_norm(f"{name}.output", wide, hidden)


def _pool(graph: _Graph, hidden: str) -> None:
    """The mean of each row's real tokens, of length 1."""
    axis = graph.constant(np.array([2], np.int64))
    mask = graph.node("Unsqueeze", [graph.node("Cast", ["attention_mask"], to=TensorProto.FLOAT), axis])
    states = graph.node("Mul", [graph.node("Cast", [hidden], to=TensorProto.FLOAT), mask])
    rows = graph.constant(np.array([1], np.int64))
    total = graph.node("ReduceSum", [states, rows], keepdims=0)
    mean = graph.node("Div", [total, graph.node("ReduceSum", [mask, rows], keepdims=0)])
    norm = graph.node("ReduceL2", [mean, graph.constant(np.array([1], np.int64))])
    graph.node("Div", [mean, norm], "sentence_embedding")


class _Graph:
    """Nodes and constants so far, and the weights by Hugging Face's names; numbers of floating point are halved."""

    def __init__(self, weights: Mapping[str, Any], half: bool) -> None:
        self._weights = weights
        self._dtype = np.float16 if half else np.float32
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def constant(self, array: Any) -> str:
        array = array.astype(self._dtype) if array.dtype.kind == "f" else array
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array) if array.ndim else array, name))
        return name

    def weight(self, name: str) -> str:
        return self.constant(self._weights[name])

    def row_starts(self) -> str:
        """The mask of every attention (see `export.graph.row_starts`)."""
        made = GraphProto()
        build = Builder(made, "row_starts")
        mask = row_starts(build)
        self._nodes.extend(build.nodes)
        self._constants.extend(made.initializer)
        return mask

    def norm(self, name: str) -> list[str]:
        return [self.weight(f"{name}.LayerNorm.{part}") for part in ("weight", "bias")]

    def product(self, name: str, x: str) -> str:
        return self.node("MatMul", [x, self.constant(self._weights[f"{name}.weight"].T)])

    def gemm(self, name: str, x: str) -> str:
        return self.node("Gemm", [x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias")], transB=1)

    def add_norm(self, name: str, x: str, residual: str) -> str:
        inputs = [self.product(f"{name}.dense", x), residual, *self.norm(name), self.weight(f"{name}.dense.bias")]
        return self.node("SkipLayerNormalization", inputs, domain=MICROSOFT, epsilon=EPSILON)

    def node(self, kind: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        """Add one; the name of its first output."""
        outputs = outputs or (f"n{len(self._nodes)}",)
        self._nodes.append(helper.make_node(kind, inputs, outputs, name=f"{kind}.{len(self._nodes)}", **attributes))
        return outputs[0]

    def model(self, output: Any) -> ModelProto:
        names = ("input_ids", "attention_mask", "token_type_ids")
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in names]
        graph = helper.make_graph(self._nodes, "bert", inputs, [output], self._constants)
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)
