"""Smoothing before INT8: move the outliers of activations into the weights, where each output channel has its scale.

A matrix product X W equals (X / s)(s W) for any positive s, one number an input channel. Activations get one INT8 scale
a run, so a few channels that are fifty times the others leave those a handful of levels; weights have no such channels.
With s_j = max|X_j|^a / max|W_j|^(1 - a), a = 0.5, both sides get half of the trouble (Xiao et al. 2023, "SmoothQuant").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from ..engine.tokens import PaddedBatch

SHARE = 0.5
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Product:
    """One activation and the matrix products that read it."""

    activation: str
    nodes: list[onnx.NodeProto]


def smooth(model: onnx.ModelProto, batches: Iterable[PaddedBatch], share: float = SHARE) -> int:
    """Rewrite `model` so that it computes the same with activations that suit INT8; how many activations were scaled.

    batches: padded real text, whose largest activation of each channel is measured; a few dozen sequences are enough.
    """
    products = _products(model)
    largest = _largest(model, [product.activation for product in products], batches)
    for product in products:
        _scale(model, product, largest[product.activation], share)
    return len(products)


def _products(model: onnx.ModelProto) -> list[_Product]:
    """Every activation that is multiplied by stored weights, with all products of it."""
    weights = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            readers.setdefault(node.input[0], []).append(node)
    return [_Product(name, nodes) for name, nodes in readers.items()]


def _largest(model: onnx.ModelProto, names: list[str], batches: Iterable[PaddedBatch]) -> dict[str, Floats]:
    """float32 [channels] for each activation: the largest magnitude at a real token."""
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    probed.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(probed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = {entry.name for entry in session.get_inputs()}
    largest: dict[str, Floats] = {}
    for batch in batches:
        feeds = {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": batch.segments}
        found = session.run(names, {name: feeds[name] for name in wanted})
        for name, activation in zip(names, found, strict=True):
            # After the first-token cut an activation has one position a sequence, which is never padding.
            rows = activation[batch.mask.astype(bool)] if activation.shape[:2] == batch.mask.shape else activation
            peak = np.abs(rows).reshape(-1, rows.shape[-1]).max(axis=0)
            largest[name] = np.maximum(largest[name], peak) if name in largest else peak
    return largest


def _scale(model: onnx.ModelProto, product: _Product, largest: Floats, share: float) -> None:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = {name: numpy_helper.to_array(tensors[name]) for name in {node.input[1] for node in product.nodes}}
    widest = np.max([np.abs(weight).max(axis=1) for weight in weights.values()], axis=0)
    usable = (largest > 0) & (widest > 0)
    scale = np.ones(len(largest), dtype=np.float32)
    scale[usable] = largest[usable] ** share / widest[usable] ** (1.0 - share)
    for name, weight in weights.items():
        tensors[name].CopyFrom(numpy_helper.from_array((weight * scale[:, None]).astype(np.float32), name))
    smoothed, inverse = f"{product.activation}_smoothed", f"{product.activation}_smoothing"
    model.graph.initializer.append(numpy_helper.from_array((1.0 / scale).astype(np.float32), inverse))
    first = next(place for place, node in enumerate(model.graph.node) if node in product.nodes)
    model.graph.node.insert(first, helper.make_node("Mul", [product.activation, inverse], [smoothed], name=smoothed))
    for node in product.nodes:
        node.input[0] = smoothed
