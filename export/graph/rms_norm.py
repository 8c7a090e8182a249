"""RMSNorm as one operator: PyTorch's exporter writes it as seven, each a pass over memory.

x · weight / √(mean(x²) + ε), Zhang and Sennrich 2019; ONNX Runtime's kernels for it are called
SimplifiedLayerNormalization, on a CPU and on CUDA.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from .builder import Wiring, drop_unused


def join_rms_norms(model: onnx.ModelProto) -> int:
    """Write every RMSNorm of a graph as one node, in place; how many there were."""
    wiring = Wiring(model)
    joined = 0
    for place, node in enumerate(model.graph.node):
        found = _norm(node, wiring)
        if found is not None:
            x, weight, epsilon = found
            name = f"{node.name}/rms_norm"
            norm = helper.make_node(
                "SimplifiedLayerNormalization", [x, weight], node.output, name, axis=-1, epsilon=epsilon
            )
            model.graph.node[place].CopyFrom(norm)
            joined += 1
    if joined:
        drop_unused(model)
    return joined


def _norm(node: onnx.NodeProto, wiring: Wiring) -> tuple[str, str, float] | None:
    """x, weight and ε where `node` is the last multiplication of an RMSNorm."""
    if node.op_type != "Mul":
        return None
    for weight, scaled in (tuple(node.input), tuple(reversed(node.input))):
        value = wiring.value(weight)
        inner = wiring.writers.get(scaled)
        if value is None or value.ndim != 1 or inner is None or inner.op_type != "Mul":
            continue
        for x, reciprocal in (tuple(inner.input), tuple(reversed(inner.input))):
            epsilon = _epsilon(x, reciprocal, wiring)
            if epsilon is not None:
                return x, weight, epsilon
    return None


def _epsilon(x: str, name: str, wiring: Wiring) -> float | None:
    """ε where `name` is 1 / √(mean(x²) + ε)."""
    for kind in ("Reciprocal", "Sqrt"):
        node = wiring.writers.get(name)
        if node is None or node.op_type != kind:
            return None
        name = node.input[0]
    add = wiring.writers.get(name)
    if add is None or add.op_type != "Add":
        return None
    epsilon = next((value for each in add.input if (value := wiring.value(each)) is not None), None)
    mean = next((writer for each in add.input if (writer := wiring.writers.get(each)) is not None), None)
    if epsilon is None or mean is None or mean.op_type != "ReduceMean":
        return None
    square = wiring.writers.get(mean.input[0])
    if square is None or square.op_type != "Pow" or square.input[0] != x or not _is(square.input[1], 2.0, wiring):
        return None
    return float(np.asarray(epsilon).reshape(()))


def _is(name: str, number: float, wiring: Wiring) -> bool:
    value = wiring.value(name)
    return value is not None and value.size == 1 and float(np.asarray(value).reshape(())) == number
