"""Nodes and constants for a graph that is being rewritten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

CONTRIB = "com.microsoft"


class Builder:
    """Collects nodes, in order, whose names and outputs begin with `stem`; constants go to `graph` at once."""

    def __init__(self, graph: onnx.GraphProto, stem: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._graph = graph
        self._stem = stem
        self._count = 0

    def constant(self, value: npt.ArrayLike, dtype: type[np.generic] = np.int64) -> str:
        """The name of a new constant."""
        name = self._name("constant")
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], *, domain: str = "", **attributes: Any) -> str:
        """A node with one output; that output's name."""
        return self.many(kind, inputs, 1, domain=domain, **attributes)[0]

    def many(self, kind: str, inputs: Sequence[str], count: int, *, domain: str = "", **attributes: Any) -> list[str]:
        """A node with `count` outputs; their names."""
        name = self._name(kind)
        outputs = [name if place == 0 else f"{name}/{place}" for place in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name, domain=domain, **attributes))
        return outputs

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{self._stem}/{kind}_{self._count}"


class Wiring:
    """Who writes each tensor of a graph, who reads it, and which are constants."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.writers = {output: node for node in model.graph.node for output in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}

    def value(self, name: str) -> npt.NDArray[Any] | None:
        """The value of a constant, None of anything else."""
        tensor = self.constants.get(name)
        writer = self.writers.get(name)
        if writer is not None and writer.op_type == "Constant" and writer.attribute[0].name == "value":
            tensor = writer.attribute[0].t
        if tensor is None:
            return None
        value: npt.NDArray[Any] = numpy_helper.to_array(tensor)
        return value

    def is_constant(self, name: str) -> bool:
        """Whether `name` is a weight or another constant, or no input at all."""
        return not name or name in self.constants or self.value(name) is not None


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove nodes and constants that lead to no output, in place."""
    wanted = {output.name for output in model.graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    used = [tensor for tensor in model.graph.initializer if tensor.name in wanted]
    if len(kept) < len(model.graph.node):
        del model.graph.node[:]
        model.graph.node.extend(reversed(kept))
    if len(used) < len(model.graph.initializer):
        keep = {tensor.name for tensor in used}
        for place in reversed(range(len(model.graph.initializer))):
            if model.graph.initializer[place].name not in keep:
                del model.graph.initializer[place]
    known = {output for node in model.graph.node for output in node.output}
    for place in reversed(range(len(model.graph.value_info))):
        if model.graph.value_info[place].name not in known:
            del model.graph.value_info[place]
