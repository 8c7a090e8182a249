"""Attention's mask as ONNX Runtime's memory-efficient attention takes it: each row's length, and where the rows start.

On CUDA that kernel is chosen for this form or for no mask. Lengths alone, which fusion leaves, go to TensorRT's fused
kernels; those end at sm_89, and an H100 would compute products, softmax and products one after the other, with the
scores [batch, heads, length, length] in memory between. On a CPU the result is the same to the bit.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...engine.errors import ExportError

LENGTHS_AND_STARTS = "row_starts/mask"


def add_row_starts(model: onnx.ModelProto) -> None:
    """Give every Attention of a fused graph the lengths it reads (int32 [batch]) with the rows' starts, in place.

    int32 [3 · batch + 2]: lengths; starts of the queries' rows and their end; starts of the keys' and their end. A row
    is as long as the batch is padded to, and that number is counted from the mask: what Shape says lies on the CPU,
    and a graph with a node there cannot be captured. Counted by CumSum, a kernel of ONNX Runtime's own: ReduceSum of
    int32 is cuDNN's on CUDA, between two casts.

    Raises ExportError when the mask is not the number of each row's tokens.
    """
    readers = [node for node in model.graph.node if node.op_type == "Attention"]
    lengths, mask = _lengths_and_mask(model, readers)
    first = next(place for place, node in enumerate(model.graph.node) if node.op_type == "Attention")
    for place, node in enumerate(_nodes(model.graph, lengths, mask), start=first):
        model.graph.node.insert(place, node)
    for node in readers:
        node.input[3] = LENGTHS_AND_STARTS


def _lengths_and_mask(model: onnx.ModelProto, readers: list[onnx.NodeProto]) -> tuple[str, str]:
    """The tensor that every one of `readers` has as its mask, and the int32 [batch, length] that it counts."""
    producers = {output: node for node in model.graph.node for output in node.output}
    read = {node.input[3] if len(node.input) > 3 else "" for node in readers}
    lengths = read.pop() if len(read) == 1 else ""
    counter = producers.get(lengths)
    mask = ""
    if counter is not None and counter.op_type == "EmbedLayerNormalization" and len(counter.input) > 7:
        mask = counter.input[7]
    elif counter is not None and counter.op_type == "ReduceSum":
        mask = counter.input[0]
    cast = producers.get(mask)
    if cast is None or cast.op_type != "Cast" or cast.input[0] != "attention_mask":
        raise ExportError(
            "fusion left a mask that is not the number of each row's tokens, so the gpu graph would run slowly; this "
            "model's mask differs from its family's"
        )
    return lengths, mask


def _nodes(graph: onnx.GraphProto, lengths: str, mask: str) -> list[onnx.NodeProto]:
    """Nodes from `mask` to LENGTHS_AND_STARTS; their constants go to `graph`."""
    made: list[onnx.NodeProto] = []

    def constant(name: str, value: list[int] | int, dtype: type[np.generic]) -> str:
        name = f"row_starts/{name}"
        graph.initializer.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def node(kind: str, inputs: list[str], name: str, **attributes: int) -> str:
        output = f"row_starts/{name}"
        made.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    zeros = node("Mul", [mask, constant("nought", 0, np.int32)], "zeros")
    ones = node("Add", [zeros, constant("one", 1, np.int32)], "ones")
    counted = node("CumSum", [ones, constant("columns", 1, np.int64)], "counted")
    widths = node("Gather", [counted, constant("last", -1, np.int64)], "widths", axis=1)
    ends = node("CumSum", [widths, constant("rows", 0, np.int64)], "ends")
    starts = node("Sub", [ends, widths], "starts")
    end = node("Gather", [ends, constant("last_row", [-1], np.int64)], "end", axis=0)
    node("Concat", [lengths, starts, end, starts, end], "mask", axis=0)
    return made
