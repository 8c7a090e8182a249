"""FP32 → FP16 and INT8 graphs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16

from ..quiet import quiet
from .builder import Wiring, attributes, drop_unused
from .head import PREFIX
from .products import narrowing, products_of
from .smoothing import NAME as SMOOTHED
from .smoothing import Run, smooth
from .token_scales import NAME as TOKEN_SCALES
from .token_scales import scale_by_token

_ARITHMETIC = frozenset(
    {"Add", "Sub", "Mul", "Div", "Log", "Ceil", "Floor", "Min", "Max", "Abs", "Sign", "Cast", "Where"}
)


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and arithmetic in FP16, but for the head (see `head`); inputs stay int64 and the output FP32.

    The head is taken off, and put behind the body's FP32 output again: the converter keeps operators in FP32 where it
    is told to, but rounds what a graph gives in the end.
    """
    head = [node for node in model.graph.node if node.name.startswith(PREFIX)]
    rest = [node for node in model.graph.node if not node.name.startswith(PREFIX)]
    written = {output for node in rest for output in node.output}
    between = list(dict.fromkeys(name for node in head for name in node.input if name in written))
    known = {entry.name: entry for entry in model.graph.value_info}
    body = onnx.ModelProto()
    body.CopyFrom(model)
    _replace(body.graph.node, rest)
    if head:
        kept = [
            known.get(name) or onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in between
        ]
        _replace(body.graph.output, kept)
    drop_unused(body)
    with quiet():
        half = convert_float_to_float16(
            body, keep_io_types=True, disable_shape_infer=True, node_block_list=_place_arithmetic(body)
        )
    half.graph.node.extend(head)
    _replace(half.graph.output, list(model.graph.output))
    _add_constants(half, model)
    return half


def _place_arithmetic(model: onnx.ModelProto) -> list[str]:
    """Nodes in floating point between two whole numbers: a bucket of relative positions is a logarithm, rounded down,
    and half precision would round some into the next bucket (MPNet, T5)."""
    wiring = Wiring(model)
    found: list[str] = []
    waiting = [
        node.input[0]
        for node in model.graph.node
        if node.op_type == "Cast" and attributes(node)["to"] in (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
    ]
    while waiting:
        node = wiring.writers.get(waiting.pop())
        if node is None or node.name in found or node.op_type not in _ARITHMETIC:
            continue
        found.append(node.name)
        waiting.extend(node.input)
    return found


def _add_constants(half: onnx.ModelProto, model: onnx.ModelProto) -> None:
    """The head's weights in FP32; one that the body has too, halved, comes again under another name."""
    there = {tensor.name for tensor in half.graph.initializer}
    for tensor in model.graph.initializer:
        readers = [node for node in half.graph.node if node.name.startswith(PREFIX) and tensor.name in node.input]
        if not readers:
            continue
        own = onnx.TensorProto()
        own.CopyFrom(tensor)
        if tensor.name in there:
            own.name = f"{PREFIX}{tensor.name}"
            for node in readers:
                _replace(node.input, [own.name if name == tensor.name else name for name in node.input])
        half.graph.initializer.append(own)


def _replace(field: Any, values: Sequence[Any]) -> None:
    """Another content of a repeated field."""
    made = list(values)
    del field[:]
    field.extend(made)


def to_int8(model: onnx.ModelProto, file: Path, run: Run, keep: Sequence[str] = ()) -> dict[str, int]:
    """Write `model` with int8 weights (symmetric, one scale an output channel) and activations quantised on the fly.

    Products that narrow have a scale for each token, the others one for each run and quieter channels where some were
    loud; returns how many inputs have the one and the other. `model` is changed.

    run:  computes tensors of a graph on some texts (see `smoothing.Run`)
    keep: names of products that stay FP32

    Matrix products of tokens alone. The embedding table stays FP32, because a lookup is no faster in INT8 and its
    rounding would be the first error in every score. It is most of a small model's file (47 of 59 MB of MiniLM-L6).
    So do products of pooled vectors (Gemm), one row a sequence: in INT8 two such rows made a third of the error of the
    bundled reranker's early exit.
    """
    pooled = [node.name for node in model.graph.node if node.op_type == "Gemm"]
    products = products_of(model, keep)
    narrow = narrowing(model, products)
    wide = {name: nodes for name, nodes in products.items() if name not in narrow}
    found = {SMOOTHED: smooth(model, wide, run), TOKEN_SCALES: scale_by_token(model, narrow)}
    with quiet():
        quantize_dynamic(
            model,
            file,
            op_types_to_quantize=["MatMul"],
            # The library turns Gemm into MatMul first, under this name.
            nodes_to_exclude=[*keep, *(f"{name}_MatMul" for name in pooled)],
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={
                "MatMulConstBOnly": True,
                "WeightSymmetric": True,
                "DefaultTensorType": onnx.TensorProto.FLOAT,
            },
        )
    return {name: number for name, number in found.items() if number}
