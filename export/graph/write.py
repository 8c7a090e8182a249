"""From a traced graph to a graph on disk in one precision."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

from ...engine.models.artifact import Precision
from .gpu_fusion import FUSED, fuse_for_gpu
from .graph_file import save_graph
from .head import head_nodes, name_head
from .last_layer import NAME as ONE_TOKEN
from .last_layer import narrow_last_layer
from .lowering import Target, counts, lower
from .precision import quantise, quieten, to_fp16
from .smoothing import Run


def target_of(precision: Precision) -> Target:
    """FP16 is for GPUs, which pad; FP32 and INT8 are for CPUs, where sequences run alone."""
    return "gpu" if precision == "fp16" else "cpu"


def write_graph(traced: Path, precision: Precision, file: Path, watch: Run) -> dict[str, int]:
    """Write the graph of one precision to `file`; its fast operators and how often each occurs.

    traced: the FP32 graph that was traced for the precision's target
    watch:  computes tensors of a graph on some texts, for INT8
    """
    target = target_of(precision)
    graph = onnx.load(traced)
    name_head(graph)
    narrowed = narrow_last_layer(graph, target)
    lower(graph, target)
    if target == "gpu":
        fuse_for_gpu(graph)
    found = counts(graph, FUSED) | ({ONE_TOKEN: 1} if narrowed else {})
    if precision != "int8":
        save_graph(to_fp16(graph) if precision == "fp16" else graph, file)
        return found
    keep = head_nodes(graph)
    found |= quieten(graph, watch, keep)
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole.onnx"
        save_graph(graph, whole)
        del graph  # a large model does not fit the memory several times
        quantise(whole, file, keep)
    return found
