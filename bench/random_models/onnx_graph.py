"""The fused ONNX graph of a random BERT: the operators that `export` leaves in a GPU's FP16 graph.

They are EmbedLayerNormalization, Attention, SkipLayerNormalization and BiasGelu. Written node by node, since tracing
and fusing takes optimum, which a machine that only measures lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ...engine.models.artifact import Kind
from ...export.graph.attention_mask import add_row_starts
from .shapes import ModelShape

MICROSOFT = "com.microsoft"
EPSILON = 1e-12


def random_graph(tensors: Mapping[str, Any], shape: ModelShape, kind: Kind, *, half: bool) -> ModelProto:
    """The graph of `tensors` (see `artifacts.weights`); logits or hidden states leave it in FP32."""
    root = "" if kind == "bi-encoder" else "bert."
    graph = _Graph({name.removeprefix(root): tensor.numpy() for name, tensor in tensors.items()}, half)
    hidden, lengths = _embed(graph)
    for number in range(shape.layers):
        hidden = _layer(graph, f"encoder.layer.{number}", hidden, lengths, shape.heads)
    output, width = "last_hidden_state", ["batch", "length", shape.width]
    if kind == "cross-encoder":
        first = graph.node("Gather", [hidden, graph.constant(np.array(0, np.int64))], axis=1)
        hidden = graph.gemm("classifier", graph.node("Tanh", [graph.gemm("pooler.dense", first)]))
        output, width = "logits", ["batch", 1]
    graph.node("Cast", [hidden], output, to=TensorProto.FLOAT)
    model = graph.model(helper.make_tensor_value_info(output, TensorProto.FLOAT, width))
    add_row_starts(model)
    return model


def _embed(graph: _Graph) -> tuple[str, str]:
    """Hidden states, and each row's number of real tokens."""
    ids, segments, mask = (
        graph.node("Cast", [name], to=TensorProto.INT32) for name in ("input_ids", "token_type_ids", "attention_mask")
    )
    tables = [f"embeddings.{table}_embeddings.weight" for table in ("word", "position", "token_type")]
    read = [ids, segments, *map(graph.weight, tables), *graph.norm("embeddings"), mask]
    hidden = graph.node("EmbedLayerNormalization", read, "hidden", "lengths", domain=MICROSOFT, epsilon=EPSILON)
    return hidden, "lengths"


def _layer(graph: _Graph, name: str, hidden: str, lengths: str, heads: int) -> str:
    joined = graph.joined([f"{name}.attention.self.{part}" for part in ("query", "key", "value")])
    read = graph.node("Attention", [hidden, *joined, lengths], domain=MICROSOFT, num_heads=heads)
    hidden = graph.add_norm(f"{name}.attention.output", read, hidden)
    wide, bias = graph.product(f"{name}.intermediate.dense", hidden), f"{name}.intermediate.dense.bias"
    wide = graph.node("BiasGelu", [wide, graph.weight(bias)], domain=MICROSOFT)
    return graph.add_norm(f"{name}.output", wide, hidden)


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

    def joined(self, names: list[str]) -> list[str]:
        """Weights [width, 3 · width] and biases of the linear layers `names`, side by side."""
        weights = np.concatenate([self._weights[f"{name}.weight"] for name in names])
        return [
            self.constant(weights.T),
            self.constant(np.concatenate([self._weights[f"{name}.bias"] for name in names])),
        ]

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
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)
