"""The head of a graph: what comes after the last hidden state. It stays in FP32 where the body is lowered to FP16.

A pooled vector is a sum of hundreds of hidden states, and a logit in half precision has a thousand steps, which make
ties.
"""

from __future__ import annotations

import onnx
import torch

from .builder import Wiring

DOMAIN = "tandem"
OPERATOR = "Head"
PREFIX = "head/"


def mark_head(hidden: torch.Tensor) -> torch.Tensor:
    """`hidden` itself; in a traced graph a node that says where the head begins."""
    if not torch.compiler.is_exporting():
        return hidden
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::{OPERATOR}", (hidden,), {}, dtype=hidden.dtype, shape=tuple(hidden.shape), version=1
    )


def name_head(model: onnx.ModelProto) -> None:
    """Give every node of the head a name with PREFIX and take the mark away, in place.

    A model without a mark has the head of its family: its last product and what follows.
    """
    wiring = Wiring(model)
    mark = next((node for node in model.graph.node if node.domain == DOMAIN and node.op_type == OPERATOR), None)
    if mark is not None:
        for reader in wiring.readers.get(mark.output[0], []):
            for place, name in enumerate(reader.input):
                if name == mark.output[0]:
                    reader.input[place] = mark.input[0]
        _name(mark.output[0], wiring)
        model.graph.node.remove(mark)
        return
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    if products:
        products[-1].name = f"{PREFIX}{products[-1].name}"
        _name(products[-1].output[0], wiring)


def head_nodes(model: onnx.ModelProto) -> list[str]:
    """The names of the head's nodes."""
    return [node.name for node in model.graph.node if node.name.startswith(PREFIX)]


def _name(tensor: str, wiring: Wiring) -> None:
    waiting = [tensor]
    while waiting:
        for node in wiring.readers.get(waiting.pop(), []):
            if not node.name.startswith(PREFIX):
                node.name = f"{PREFIX}{node.name}"
                waiting.extend(node.output)
