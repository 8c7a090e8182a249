"""Two pairs of operators that ONNX Runtime's CUDA kernels compute in one pass over memory.

On a CPU both are slower than their parts (see `lowering.keep_norms_apart`), so the graph of a CPU has none.
"""

from __future__ import annotations

import onnx
from onnx import helper

from .builder import CONTRIB, Wiring, attributes

FUSED = frozenset({"SkipLayerNormalization", "BiasGelu"})


def fuse_for_gpu(model: onnx.ModelProto) -> None:
    """Join Add and LayerNormalization, and a bias and GELU, in place."""
    wiring = Wiring(model)
    replaced: dict[int, onnx.NodeProto | None] = {}
    for node in model.graph.node:
        before = wiring.writers.get(node.input[0]) if node.input else None
        if before is None or before.op_type != "Add":
            continue
        if node.op_type == "LayerNormalization" and not any(map(wiring.is_constant, before.input)):
            replaced[id(before)] = None
            replaced[id(node)] = _skip_norm(node, before, wiring)
        elif node.op_type == "Gelu" and attributes(node).get("approximate", b"none") == b"none":
            bias = next((name for name in before.input if wiring.is_constant(name)), None)
            if bias is not None and len(wiring.readers[before.output[0]]) == 1:
                x = next(name for name in before.input if name != bias)
                replaced[id(before)] = None
                replaced[id(node)] = helper.make_node("BiasGelu", [x, bias], node.output, node.name, domain=CONTRIB)
    nodes = [replaced.get(id(node), node) for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(node for node in nodes if node is not None)


def _skip_norm(norm: onnx.NodeProto, add: onnx.NodeProto, wiring: Wiring) -> onnx.NodeProto:
    """The sum is an output too where something else reads it: the residual of a model that normalises first."""
    alone = len(wiring.readers[add.output[0]]) == 1
    outputs = [norm.output[0]] if alone else [norm.output[0], "", "", add.output[0]]
    epsilon = attributes(norm).get("epsilon", 1e-5)
    return helper.make_node(
        "SkipLayerNormalization", [*add.input, *norm.input[1:]], outputs, norm.name, domain=CONTRIB, epsilon=epsilon
    )
