"""Graphs on disk: one file each, or two where protobuf's limit of 2 GB leaves no choice."""

from __future__ import annotations

from pathlib import Path

import onnx

# Protobuf refuses messages of 2 GiB; nodes and names need some of that too.
LARGEST = 2**31 - 2**26
DATA = ".data"


def save_graph(model: onnx.ModelProto, file: Path, *, largest: int = LARGEST) -> None:
    """Write `model` to `file`, and its weights to `file` + `.data` beside it when they exceed `largest` bytes."""
    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if weights <= largest:
        onnx.save(model, file)
    else:
        onnx.save(model, file, save_as_external_data=True, location=file.name + DATA, size_threshold=1024)
