"""The fused ONNX graph of a random BERT, written byte by byte: a GPU machine without network has no onnx package.

The operators are those that `export/fused.py` leaves in an FP16 graph: EmbedLayerNormalization, Attention,
SkipLayerNormalization, BiasGelu. The bytes are protobuf's wire format (field number and type, then the value; messages
and strings with their length before them), the field numbers those of onnx.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...engine.models.artifact import Kind
from .settings import ModelShape

FLOAT, INT32, INT64, HALF = 1, 6, 7, 10
_NUMPY = {np.dtype(np.float32): FLOAT, np.dtype(np.int32): INT32, np.dtype(np.int64): INT64, np.dtype(np.float16): HALF}
MICROSOFT = "com.microsoft"
EPSILON = 1e-12


def write_graph(
    path: Path, tensors: Mapping[str, Any], shape: ModelShape, kind: Kind, *, half: bool, starts: bool = True
) -> None:
    """Write the graph of `tensors` (see `models.weights`) to `path`; logits or hidden states leave it in FP32.

    starts: the attention's mask has the rows' starts beside their lengths, as exported graphs have it
    """
    graph = _Graph(np.float16 if half else np.float32)
    root = "" if kind == "bi-encoder" else "bert."
    take = {name.removeprefix(root): tensor.numpy() for name, tensor in tensors.items()}
    hidden, mask = _embed(graph, take, starts)
    for number in range(shape.layers):
        hidden = _layer(graph, take, f"encoder.layer.{number}", hidden, mask, shape.heads)
    if kind == "cross-encoder":
        first = graph.node("Gather", [hidden, graph.constant(np.array(0, np.int64))], axis=1)
        pooled = graph.node("Tanh", [_gemm(graph, take, "pooler.dense", first)])
        hidden = _gemm(graph, take, "classifier", pooled)
    output = "logits" if kind == "cross-encoder" else "last_hidden_state"
    graph.node("Cast", [hidden], output, to=FLOAT)
    width = ["batch", 1] if kind == "cross-encoder" else ["batch", "length", shape.width]
    path.write_bytes(graph.model(output, width))


def _embed(graph: _Graph, take: Mapping[str, Any], starts: bool) -> tuple[str, str]:
    """Hidden states, and each row's number of real tokens, with where the rows start or without."""
    ids, segments, mask = (
        graph.node("Cast", [name], to=INT32) for name in ("input_ids", "token_type_ids", "attention_mask")
    )
    tables = [
        graph.constant(take[f"embeddings.{table}_embeddings.weight"]) for table in ("word", "position", "token_type")
    ]
    norms = [graph.constant(take[f"embeddings.LayerNorm.{part}"]) for part in ("weight", "bias")]
    read = [ids, segments, *tables, *norms, mask]
    hidden, lengths = graph.node_pair("EmbedLayerNormalization", read, epsilon=EPSILON)
    return hidden, _with_starts(graph, lengths, mask) if starts else lengths


def _with_starts(graph: _Graph, lengths: str, mask: str) -> str:
    """int32 [3 · batch + 2], as `export/row_starts.py` makes it and says why."""
    zeros = graph.node("Mul", [mask, graph.constant(np.array(0, np.int32))])
    ones = graph.node("Add", [zeros, graph.constant(np.array(1, np.int32))])
    counted = graph.node("CumSum", [ones, graph.constant(np.array(1, np.int64))])
    widths = graph.node("Gather", [counted, graph.constant(np.array(-1, np.int64))], axis=1)
    ends = graph.node("CumSum", [widths, graph.constant(np.array(0, np.int64))])
    starts = graph.node("Sub", [ends, widths])
    end = graph.node("Gather", [ends, graph.constant(np.array([-1], np.int64))], axis=0)
    return graph.node("Concat", [lengths, starts, end, starts, end], axis=0)


def _layer(graph: _Graph, take: Mapping[str, Any], name: str, hidden: str, mask: str, heads: int) -> str:
    parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
    weight = graph.constant(np.concatenate([take[f"{part}.weight"] for part in parts]).T)
    bias = graph.constant(np.concatenate([take[f"{part}.bias"] for part in parts]))
    read = graph.node("Attention", [hidden, weight, bias, mask], domain=MICROSOFT, num_heads=heads)
    hidden = _add_norm(graph, take, f"{name}.attention.output", read, hidden)
    wide = _product(graph, take, f"{name}.intermediate.dense", hidden)
    bias = graph.constant(take[f"{name}.intermediate.dense.bias"])
    wide = graph.node("BiasGelu", [wide, bias], domain=MICROSOFT)
    return _add_norm(graph, take, f"{name}.output", wide, hidden)


def _add_norm(graph: _Graph, take: Mapping[str, Any], name: str, x: str, residual: str) -> str:
    norms = [graph.constant(take[f"{name}.LayerNorm.{part}"]) for part in ("weight", "bias")]
    inputs = [_product(graph, take, f"{name}.dense", x), residual, *norms, graph.constant(take[f"{name}.dense.bias"])]
    return graph.node("SkipLayerNormalization", inputs, domain=MICROSOFT, epsilon=EPSILON)


def _product(graph: _Graph, take: Mapping[str, Any], name: str, x: str) -> str:
    return graph.node("MatMul", [x, graph.constant(take[f"{name}.weight"].T)])


def _gemm(graph: _Graph, take: Mapping[str, Any], name: str, x: str) -> str:
    weight, bias = graph.constant(take[f"{name}.weight"]), graph.constant(take[f"{name}.bias"])
    return graph.node("Gemm", [x, weight, bias], transB=1)


class _Graph:
    """Nodes and constants so far; numbers of floating point become `dtype`."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = dtype
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []

    def constant(self, array: Any) -> str:
        """TensorProto: dims 1, data_type 2, name 8, raw_data 9."""
        array = np.asarray(array)
        array = array.astype(self._dtype) if array.dtype.kind == "f" else array
        array = array if array.flags.c_contiguous else np.ascontiguousarray(array)
        name = f"c{len(self._constants)}"
        dims = b"".join(_number(1, size) for size in array.shape)
        self._constants.append(dims + _number(2, _NUMPY[array.dtype]) + _text(8, name) + _bytes(9, array.tobytes()))
        return name

    def node(self, kind: str, inputs: list[str], output: str = "", domain: str = "", **attributes: int | float) -> str:
        """NodeProto: input 1, output 2, name 3, op_type 4, attribute 5, domain 7. Returns the output's name."""
        output = output or f"n{len(self._nodes)}"
        self._add(kind, inputs, [output], domain, attributes)
        return output

    def node_pair(self, kind: str, inputs: list[str], **attributes: int | float) -> tuple[str, str]:
        """A node of Microsoft's domain with two outputs."""
        outputs = [f"n{len(self._nodes)}", f"n{len(self._nodes)}.mask"]
        self._add(kind, inputs, outputs, MICROSOFT, attributes)
        return outputs[0], outputs[1]

    def _add(self, kind: str, inputs: list[str], outputs: list[str], domain: str, attributes: dict[str, Any]) -> None:
        said = b"".join(_text(1, name) for name in inputs) + b"".join(_text(2, name) for name in outputs)
        said += _text(3, f"{kind}.{len(self._nodes)}") + _text(4, kind)
        said += b"".join(_bytes(5, _attribute(name, value)) for name, value in attributes.items())
        self._nodes.append(said + (_text(7, domain) if domain else b""))

    def model(self, output: str, shape: list[Any]) -> bytes:
        """ModelProto: version 1, graph 7, opset_import 8. GraphProto: node 1, name 2, initializer 5, in 11, out 12."""
        graph = b"".join(_bytes(1, node) for node in self._nodes) + _text(2, "bert")
        graph += b"".join(_bytes(5, constant) for constant in self._constants)
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            graph += _bytes(11, _value(name, INT64, ["batch", "length"]))
        graph += _bytes(12, _value(output, FLOAT, shape))
        opsets = _bytes(8, _text(1, "") + _number(2, 17)) + _bytes(8, _text(1, MICROSOFT) + _number(2, 1))
        return _number(1, 8) + _bytes(7, graph) + opsets


def _attribute(name: str, value: int | float) -> bytes:
    """AttributeProto: name 1, f 2, i 3, type 20 (1: float, 2: int)."""
    if isinstance(value, float):
        return _text(1, name) + _key(2, 5) + struct.pack("<f", value) + _number(20, 1)
    return _text(1, name) + _number(3, value) + _number(20, 2)


def _value(name: str, kind: int, shape: list[Any]) -> bytes:
    """ValueInfoProto: name 1, type 2 → tensor_type 1 → elem_type 1, shape 2 → dim 1 → dim_value 1 or dim_param 2."""
    dims = b"".join(_bytes(1, _text(2, size) if isinstance(size, str) else _number(1, size)) for size in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, dims)))


def _varint(number: int) -> bytes:
    out = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def _key(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _number(field: int, value: int) -> bytes:
    return _key(field, 0) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())
