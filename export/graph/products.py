"""The products of a graph that INT8 is for: tensors times constant matrices."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

LEVELS, WEIGHT_LEVELS = 255, 127  # above the lowest activation; of a weight to either side of zero
Matrix = npt.NDArray[np.float32]
Products = dict[str, list[onnx.NodeProto]]
"""Tensors [..., channels] by name, and the MatMul nodes that multiply them with constant [channels, outputs]."""


def products_of(model: onnx.ModelProto, keep: Collection[str] = ()) -> Products:
    """All such products of `model` but those named in `keep`."""
    matrices = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2}
    found: Products = {}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in matrices and node.name not in keep:
            found.setdefault(node.input[0], []).append(node)
    return found


def matrices_of(model: onnx.ModelProto, products: Iterable[onnx.NodeProto]) -> list[Matrix]:
    """The constants that `products` multiply with, each float32 [channels, outputs]."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    return [np.asarray(numpy_helper.to_array(tensors[node.input[1]]), dtype=np.float32) for node in products]


def narrowing(model: onnx.ModelProto, products: Products) -> Products:
    """Those inputs that are wider than all that is made of them together."""
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}

    def shape(node: onnx.NodeProto) -> tuple[int, int]:
        channels, outputs = sizes[node.input[1]]
        return channels, outputs

    return {
        name: nodes for name, nodes in products.items() if sum(shape(node)[1] for node in nodes) < shape(nodes[0])[0]
    }
