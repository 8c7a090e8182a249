"""Channels of a feed-forward that are many times larger than all others, computed beside an INT8 product in FP32.

A run's activations share one INT8 scale. In BERT-like models one or two of a feed-forward's channels reach several
times what any other does, whatever the text, and make every step of that scale so much coarser; Dettmers et al. 2022
("LLM.int8()") split such dimensions off too. The channels' columns and rows move into two small FP32 products whose
result is added: in FP32 the graph computes what it did before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

NAME = "OutlierChannels"
SUFFIX = "/outliers"
# A channel is an outlier when its maximum is so many times that of the channel at RANK: at twice, the scale is at least
# halved in what it covers. More than MOST in one layer are not outliers but a wide distribution.
TIMES, RANK, MOST = 2.0, 16, 8
Array = npt.NDArray[np.float32]
Run = Callable[[onnx.ModelProto], Iterable[list[Array]]]
"""A graph with other outputs → those outputs, each [n, tokens, channels], on some texts."""


@dataclass(frozen=True, slots=True)
class _Block:
    """One feed-forward: activation = act(x @ inner + bias), then activation @ outer."""

    x: str
    inner: onnx.NodeProto
    bias: onnx.NodeProto
    act: onnx.NodeProto
    outer: onnx.NodeProto


def split_outliers(model: onnx.ModelProto, run: Run) -> list[str]:
    """Split the outlier channels of every feed-forward of `model` off, in place; the names of the new products.

    Weights that several nodes share stay whole.
    """
    blocks = list(_blocks(model))
    if not blocks:
        return []
    seen = _maxima(model, blocks, run)
    products = []
    for block, maxima in zip(blocks, seen, strict=True):
        channels = outliers_of(maxima)
        if len(channels):
            products += _split(model, block, channels)
    return products


def outliers_of(maxima: Array) -> npt.NDArray[np.int64]:
    """The channels (float32 [channels] maxima) that are many times larger than the others; none if there are many."""
    if len(maxima) <= RANK:
        return np.empty(0, dtype=np.int64)
    usual = np.sort(maxima)[-RANK]
    found = np.flatnonzero(maxima > TIMES * usual)
    return found if len(found) <= MOST else np.empty(0, dtype=np.int64)


def _maxima(model: onnx.ModelProto, blocks: list[_Block], run: Run) -> list[Array]:
    """For each block, float32 [channels]: the largest activation of each channel on any text."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(
        helper.make_tensor_value_info(block.act.output[0], TensorProto.FLOAT, None) for block in blocks
    )
    found: list[Array] = []
    for outputs in run(watched):
        largest = [output.max(axis=(0, 1)) for output in outputs]
        found = largest if not found else [np.maximum(a, b) for a, b in zip(found, largest, strict=True)]
    return found


def _blocks(model: onnx.ModelProto) -> Iterator[_Block]:
    weights = {tensor.name for tensor in model.graph.initializer}
    used = Counter(name for node in model.graph.node for name in node.input)
    own = {name for name in weights if used[name] == 1}
    producers = {output: node for node in model.graph.node for output in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for act in model.graph.node:
        if act.op_type != "Gelu":
            continue
        bias = producers.get(act.input[0])
        if bias is None or bias.op_type != "Add" or not own.intersection(bias.input):
            continue
        inner = next((producers[name] for name in bias.input if name in producers), None)
        after = readers.get(act.output[0], [])
        if (
            inner is not None
            and len(after) == 1
            and all(node.op_type == "MatMul" and node.input[1] in own for node in (inner, after[0]))
        ):
            yield _Block(inner.input[0], inner, bias, act, after[0])


def _split(model: onnx.ModelProto, block: _Block, channels: npt.NDArray[np.int64]) -> list[str]:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    bias_name = next(name for name in block.bias.input if name in tensors)
    inner, bias, outer = (
        np.array(numpy_helper.to_array(tensors[name]))
        for name in (block.inner.input[1], bias_name, block.outer.input[1])
    )
    stem = block.outer.name + SUFFIX
    parts = {f"{stem}/inner": inner[:, channels], f"{stem}/bias": bias[channels], f"{stem}/outer": outer[channels]}
    model.graph.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(part), n) for n, part in parts.items())
    inner[:, channels], bias[channels], outer[channels] = 0.0, 0.0, 0.0
    for name, array in ((block.inner.input[1], inner), (bias_name, bias), (block.outer.input[1], outer)):
        tensors[name].CopyFrom(numpy_helper.from_array(array, name))
    names = [f"{stem}/{step}" for step in ("MatMul", "Add", "Gelu", "MatMul_1", "Sum")]
    whole, main = block.outer.output[0], f"{block.outer.output[0]}/main"
    block.outer.output[0] = main
    new = [
        helper.make_node("MatMul", [block.x, f"{stem}/inner"], [names[0]], names[0]),
        helper.make_node("Add", [names[0], f"{stem}/bias"], [names[1]], names[1]),
        helper.make_node("Gelu", [names[1]], [names[2]], names[2], domain=block.act.domain),
        helper.make_node("MatMul", [names[2], f"{stem}/outer"], [names[3]], names[3]),
        helper.make_node("Add", [main, names[3]], [whole], names[4]),
    ]
    place = list(model.graph.node).index(block.outer) + 1
    for offset, node in enumerate(new):
        model.graph.node.insert(place + offset, node)
    return [names[0], names[3]]
