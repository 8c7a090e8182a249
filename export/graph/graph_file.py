"""Graphs on disk: one file each, or two where there are many weights."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx.external_data_helper import set_external_data

# A file beside the graph is mapped, not read: whoever opens the graph needs no memory for it twice. Small graphs are
# easier to handle as one file. Protobuf refuses messages of 2 GiB anyhow.
LARGEST = 2**28
DATA = ".data"
_PAGE = 4096
_SMALL = 1024
"""Bytes of a tensor below which it stays in the graph."""


def save_graph(model: onnx.ModelProto, file: Path, *, largest: int = LARGEST) -> None:
    """Write `model` to `file`, and its weights to `file` + `.data` beside it when they exceed `largest` bytes."""
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= largest:
        onnx.save(model, file)
        return
    shell = _without_weights(model)
    data = file.with_name(file.name + DATA)
    with data.open("wb") as weights:
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) < _SMALL:
                shell.graph.initializer.append(tensor)
                continue
            weights.seek(-(-weights.tell() // _PAGE) * _PAGE)
            outside = shell.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            outside.raw_data = b""  # the library refers to the place of what has data
            set_external_data(outside, data.name, offset=weights.tell(), length=len(tensor.raw_data))
            outside.ClearField("raw_data")
            weights.write(tensor.raw_data)
    onnx.save(shell, file)


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of all of a model but its weights, which may be most of the memory there is."""
    shell = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _copy(shell, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _copy(shell.graph, field.name, value)
    return shell


def _copy(message: onnx.ModelProto | onnx.GraphProto, name: str, value: object) -> None:
    if isinstance(value, int | str | bytes):
        setattr(message, name, value)
    else:
        getattr(message, name).MergeFrom(value)
