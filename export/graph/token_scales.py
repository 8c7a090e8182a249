"""INT8 products whose activations have a scale for each token instead of one for each run.

A token's largest activation sets its scale, so one loud token ([CLS], a decoder's first) leaves the steps of the others
as fine as they were. What comes out is multiplied with the scales, which is one more pass over it. So this is for
products that come out narrower than they went in, such as the second of each feed-forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from .products import Matrix, Products, drop_unread, matrices_of

NAME = "TokenScales"
LEVELS, WEIGHT_LEVELS = 255, 127  # above the lowest activation; of a weight to either side of zero
# Zero is the middle level. GELU's lowest value is -.17: 24 levels are enough for it where a token's largest is 1.6 or
# more, as nine in ten of the bundled reranker's are, and 231 are left for the others.
ZERO, GELU_ZERO, GELU_LOWEST = 128, 24, 0.17
TINY = 1e-30  # the least scale: a token of zeros is divided by it


def scale_by_token(model: onnx.ModelProto, products: Products) -> int:
    """Write `products` of `model` in INT8 with a scale for each token, in place; the number of their inputs.

    Weights are symmetric, with a scale for each output. Rounding to levels is all that is lost: products of bytes are
    summed in 32 bits (see `cpu_session` for processors that cannot).
    """
    kinds = {output: node.op_type for node in model.graph.node for output in node.output}
    inputs = {node.output[0]: name for name, readers in products.items() for node in readers}
    build = _Builder(model)
    done: dict[str, _Quantised] = {}
    for node in model.graph.node:
        name = inputs.get(node.output[0])
        if name is None:
            build.nodes.append(node)
            continue
        if name not in done:
            done[name] = _quantise(build, name, gelu=kinds.get(name) == "Gelu")
        _multiply(build, node, done[name], matrices_of(model, [node])[0])
    del model.graph.node[:]
    model.graph.node.extend(build.nodes)
    drop_unread(model)
    return len(done)


def quantise_weights(weights: Matrix) -> tuple[npt.NDArray[np.int8], Matrix]:
    """int8 [channels, outputs] of float32 weights, and float32 [outputs]: the scale of each output's."""
    scales = np.maximum(np.abs(weights).max(axis=0) / WEIGHT_LEVELS, TINY).astype(np.float32)
    return np.rint(weights / scales).astype(np.int8), scales


@dataclass(frozen=True, slots=True)
class _Quantised:
    """The names of a tensor's levels, uint8 [..., channels], of its scales, float32 [..., 1], and of its zero."""

    levels: str
    scales: str
    zero: str


@dataclass(slots=True)
class _Builder:
    """Nodes in order, each with one output of its own name."""

    model: onnx.ModelProto
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike, name: str) -> str:
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def over_channels(self, kind: str, tensor: str, name: str) -> str:
        """[..., channels] → [..., 1]; the axis is an input from opset 18 on."""
        opset = next(entry.version for entry in self.model.opset_import if entry.domain == "")
        if opset < 18:
            return self.node(kind, [tensor], name, axes=[-1])
        return self.node(kind, [tensor, self.constant([-1], np.int64, f"{name}/axes")], name)


def _quantise(build: _Builder, name: str, *, gelu: bool) -> _Quantised:
    """The smallest scale of each token with which its largest and its lowest value are within the levels."""
    stem, zero = f"{name}/tokens", GELU_ZERO if gelu else ZERO
    above = build.constant(1.0 / (LEVELS - zero), np.float32, f"{stem}/above")
    needed = [build.node("Mul", [build.over_channels("ReduceMax", name, f"{stem}/max"), above], f"{stem}/high")]
    if gelu:
        needed.append(build.constant(GELU_LOWEST / zero, np.float32, f"{stem}/low"))
    else:
        below = build.constant(-1.0 / zero, np.float32, f"{stem}/below")
        needed.append(build.node("Mul", [build.over_channels("ReduceMin", name, f"{stem}/min"), below], f"{stem}/low"))
        needed.append(build.constant(TINY, np.float32, f"{stem}/least"))
    scales = build.node("Max", needed, f"{stem}/scales")
    # Processors divide several times slower than they multiply.
    inverse = build.node("Reciprocal", [scales], f"{stem}/inverse")
    divided = build.node("Mul", [name, inverse], f"{stem}/divided")
    one, middle = build.constant(1.0, np.float32, f"{stem}/one"), build.constant(zero, np.uint8, f"{stem}/zero")
    return _Quantised(build.node("QuantizeLinear", [divided, one, middle], f"{stem}/levels"), scales, middle)


def _multiply(build: _Builder, product: onnx.NodeProto, x: _Quantised, matrix: Matrix) -> None:
    """`product` with `x` for its input, in the operator that ONNX Runtime's own fusion makes of such products."""
    stem, (weights, scales) = product.output[0], quantise_weights(matrix)
    inputs = [
        x.levels,
        build.constant(weights, np.int8, f"{stem}/weights"),
        build.constant(1.0, np.float32, f"{stem}/one"),
        build.constant(scales, np.float32, f"{stem}/weight_scales"),
        x.zero,
        build.constant(np.zeros(len(scales)), np.int8, f"{stem}/weight_zeros"),
    ]
    raw = build.node("MatMulIntegerToFloat", inputs, f"{stem}/integers", domain="com.microsoft")
    build.nodes.append(helper.make_node("Mul", [raw, x.scales], [product.output[0]], f"{stem}/scaled"))
