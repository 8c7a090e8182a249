"""Large tables of a graph: what is looked up and never computed with, such as word embeddings.

Half of a multilingual model are its embeddings. The libraries that convert a graph copy every weight several times:
with 250,000 words of 768 numbers aside, each of these copies needs .7 GiB less.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

_LARGEST_HALF = np.finfo(np.float16).max
LARGE = 2**20
"""Numbers in a table that is worth it."""


def halve_tables(model: onnx.ModelProto) -> None:
    """Turn the large tables into FP16, in place."""
    for tensor in _tables(model):
        with np.errstate(over="ignore"):
            numbers = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(numbers.clip(-_LARGEST_HALF, _LARGEST_HALF), tensor.name))


def drop_tables(model: onnx.ModelProto) -> list[str]:
    """Take the large tables out of `model`, which then has inputs of their names; these names."""
    found = _tables(model)
    model.graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in found)
    names = [tensor.name for tensor in found]
    for place in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[place].name in names:
            del model.graph.initializer[place]
    return names


def put_tables(model: onnx.ModelProto, names: list[str], file: Path) -> None:
    """Give `model` the tables that were taken out, in place of its inputs, from the graph `file` that has them."""
    kept = [entry for entry in model.graph.input if entry.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    for tensor in onnx.load(file, load_external_data=False).graph.initializer:
        if tensor.name in names:
            if uses_external_data(tensor):
                load_external_data_for_tensor(tensor, str(file.parent))
                tensor.ClearField("external_data")
                tensor.data_location = TensorProto.DEFAULT
            model.graph.initializer.append(tensor)


def _tables(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    read: dict[str, set[tuple[str, int]]] = {}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            read.setdefault(name, set()).add((node.op_type, place))
    return [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
        and int(np.prod(tensor.dims)) >= LARGE
        and read.get(tensor.name) == {("Gather", 0)}
    ]
