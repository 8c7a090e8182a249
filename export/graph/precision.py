"""FP32 → FP16 and INT8 graphs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16

from ..quiet import quiet
from .builder import Wiring, attributes, drop_unused
from .graph_file import save_graph
from .head import PREFIX
from .products import narrowing, products_of
from .smoothing import NAME as SMOOTHED
from .smoothing import Run, smooth
from .tables import drop_tables, halve_tables, put_tables
from .token_scales import NAME as TOKEN_SCALES
from .token_scales import scale_by_token

_ARITHMETIC = frozenset(
    {"Add", "Sub", "Mul", "Div", "Log", "Ceil", "Floor", "Min", "Max", "Abs", "Sign", "Cast", "Where"}
)


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and arithmetic in FP16, but for the head (see `head`); inputs stay int64 and the output FP32. `model` is
    changed.

    The head is taken off, and put behind the body's FP32 output again: the converter keeps operators in FP32 where it
    is told to, but rounds what a graph gives in the end.
    """
    head = [node for node in model.graph.node if node.name.startswith(PREFIX)]
    rest = [node for node in model.graph.node if not node.name.startswith(PREFIX)]
    written = {output for node in rest for output in node.output}
    between = list(dict.fromkeys(name for node in head for name in node.input if name in written))
    known = {entry.name: entry for entry in model.graph.value_info}
    outputs = list(model.graph.output)
    constants = _constants(model, head)
    _replace(model.graph.node, rest)
    if head:
        kept = [
            known.get(name) or onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in between
        ]
        _replace(model.graph.output, kept)
    drop_unused(model)
    halve_tables(model)
    with quiet():
        half = convert_float_to_float16(
            model, keep_io_types=True, disable_shape_infer=True, node_block_list=_place_arithmetic(model)
        )
    half.graph.node.extend(head)
    _replace(half.graph.output, outputs)
    _add_constants(half, constants)
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


def _constants(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> list[onnx.TensorProto]:
    """Copies of the weights that `nodes` read."""
    read = {name for node in nodes for name in node.input}
    found = []
    for tensor in model.graph.initializer:
        if tensor.name in read:
            found.append(onnx.TensorProto())
            found[-1].CopyFrom(tensor)
    return found


def _add_constants(half: onnx.ModelProto, constants: Sequence[onnx.TensorProto]) -> None:
    """The head's weights in FP32; one that the body has too, halved, comes again under another name."""
    there = {tensor.name for tensor in half.graph.initializer}
    for tensor in constants:
        if tensor.name in there:
            own = f"{PREFIX}{tensor.name}"
            for node in half.graph.node:
                if node.name.startswith(PREFIX):
                    _replace(node.input, [own if name == tensor.name else name for name in node.input])
            tensor.name = own
        half.graph.initializer.append(tensor)


def _replace(field: Any, values: Sequence[Any]) -> None:
    """Another content of a repeated field."""
    made = list(values)
    del field[:]
    field.extend(made)


def quieten(model: onnx.ModelProto, run: Run, keep: Sequence[str] = ()) -> dict[str, int]:
    """Prepare `model`, in place, for INT8: products that narrow get a scale for each token, the others one for each run
    and quieter channels where some are loud; how many inputs have the one and the other.

    run:  computes tensors of a graph on some texts (see `smoothing.Run`)
    keep: names of products that stay FP32
    """
    products = products_of(model, keep)
    narrow = narrowing(model, products)
    wide = {name: nodes for name, nodes in products.items() if name not in narrow}
    found = {SMOOTHED: smooth(model, wide, run), TOKEN_SCALES: scale_by_token(model, narrow)}
    return {name: number for name, number in found.items() if number}


def quantise(whole: Path, file: Path, keep: Sequence[str] = ()) -> None:
    """Write the graph `whole` to `file` with int8 weights (symmetric, one scale an output channel) and activations
    quantised on the fly; products named in `keep` stay FP32.

    Matrix products of tokens alone. The embedding table stays FP32, because a lookup is no faster in INT8 and its
    rounding would be the first error in every score. It is most of a small model's file (47 of 59 MB of MiniLM-L6).
    So do products of pooled vectors (Gemm), one row a sequence: in INT8 two such rows made a third of the error of the
    bundled reranker's early exit.
    """
    model = onnx.load(whole)
    pooled = [node.name for node in model.graph.node if node.op_type == "Gemm"]
    tables = drop_tables(model)
    with tempfile.TemporaryDirectory() as scratch, quiet():
        products, quantised = Path(scratch) / "products.onnx", Path(scratch) / "quantised.onnx"
        save_graph(model, products)
        del model  # the library has the weights in memory itself
        quantize_dynamic(
            products,
            quantised,
            op_types_to_quantize=["MatMul"],
            # The library turns Gemm into MatMul first, under this name.
            nodes_to_exclude=[*keep, *(f"{name}_MatMul" for name in pooled)],
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
            extra_options={
                "MatMulConstBOnly": True,
                "WeightSymmetric": True,
                "DefaultTensorType": onnx.TensorProto.FLOAT,
            },
        )
        made = onnx.load(quantised)
        put_tables(made, tables, whole)
        save_graph(made, file)
