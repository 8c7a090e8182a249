"""A cross-encoder reads its answer off the first token, so its last layer need not compute the others.

Keys and values of the last attention need every token; its queries, its output and the feed-forward after it do not.
The saving is exact: five sixths of the last layer, about 13 % of a model with six.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

NAME = "FirstTokenOnly"
ADDITIONS = ("Add", "Sum", "SkipLayerNormalization")


def keep_first_token(model: onnx.ModelProto) -> bool:
    """Narrow the last layer of `model` to token 0 in place; False, and unchanged, where its pattern is another.

    Wanted: the last normalisation's output is read by nothing but a Gather of token 0; and the last layer's input is
    read by its attention and by one residual addition.
    """
    graph = _Graph(model)
    if not graph.ends_at_first_token():
        return False
    fused = [node for node in graph.nodes if node.op_type == "Attention"]
    softmax = [node for node in graph.nodes if node.op_type == "Softmax"]
    if fused:
        attention = fused[-1]
        layer_input = attention.input[0]
    elif softmax:
        query = graph.back_to_projection(softmax[-1])
        if query is None:
            return False
        layer_input = query.input[0]
    else:
        return False
    residual = [node for node in graph.readers(layer_input) if node.op_type in ADDITIONS]
    if len(residual) != 1:
        return False
    first = graph.first_token_of(layer_input)
    _replace_input(residual[0], layer_input, first)
    if fused:
        context = attention.output[0]
        readers = graph.readers(context)
        first = graph.first_token_of(context)
        for node in readers:
            _replace_input(node, context, first)
    else:
        _replace_input(query, layer_input, first)
    return True


class _Graph:
    """Who writes and who reads each tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.nodes = list(model.graph.node)
        self.producers = {output: node for node in self.nodes for output in node.output}
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if tensor in node.input]

    def ends_at_first_token(self) -> bool:
        last = [node for node in self.nodes if node.op_type in ("LayerNormalization", "SkipLayerNormalization")]
        readers = self.readers(last[-1].output[0]) if last else []
        return len(readers) == 1 and self._gathers_first_token(readers[0])

    def _gathers_first_token(self, node: onnx.NodeProto) -> bool:
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        index = self.constants.get(node.input[1]) if len(node.input) > 1 else None
        return node.op_type == "Gather" and axis == 1 and index is not None and not index.any()

    def back_to_projection(self, node: onnx.NodeProto | None) -> onnx.NodeProto | None:
        """From a softmax back along first computed inputs to the MatMul with the query projection's weights."""
        while node is not None:
            computed = [name for name in node.input if name not in self.constants]
            if node.op_type == "MatMul" and len(computed) == 1:
                return node
            node = self.producers.get(computed[0]) if computed else None
        return None

    def first_token_of(self, tensor: str) -> str:
        """The name of `tensor` [batch, 1, d], sliced from [batch, length, d] right after it is written."""
        bounds = [f"{tensor}/first/{name}" for name in ("start", "end", "axis")]
        for name, value in zip(bounds, (0, 1, 1), strict=True):
            self.graph.initializer.append(numpy_helper.from_array(np.array([value], dtype=np.int64), name))
        output = f"{tensor}/first"
        position = next(i for i, node in enumerate(self.graph.node) if tensor in node.output)
        self.graph.node.insert(position + 1, helper.make_node("Slice", [tensor, *bounds], [output], name=output))
        return output


def _replace_input(node: onnx.NodeProto, old: str, new: str) -> None:
    for index, name in enumerate(node.input):
        if name == old:
            node.input[index] = new
