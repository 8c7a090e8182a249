"""INT8 products whose activations have a scale for each token instead of one for each run.

A token's largest activation sets its scale, so one loud token ([CLS], a decoder's first) leaves the steps of the others
as fine as they were. What comes out is multiplied with the scales, which is one more pass over it. So this is for
products that come out narrower than they went in, such as the second of each feed-forward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from .builder import CONTRIB, Builder, drop_unused
from .products import LEVELS, WEIGHT_LEVELS, Matrix, Products, matrices_of

NAME = "TokenScales"
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
    build = Builder(model.graph, "token_scales")
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
    drop_unused(model)
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


def _quantise(build: Builder, name: str, *, gelu: bool) -> _Quantised:
    """The smallest scale of each token with which its largest and its lowest value are within the levels."""
    zero, axes = GELU_ZERO if gelu else ZERO, build.constant([-1])

    def part(kind: str, of_level: float) -> str:
        """[..., channels] → [..., 1]: a token's extreme value, as a scale."""
        return build.node("Mul", [build.node(kind, [name, axes]), build.constant(of_level, np.float32)])

    needed = [part("ReduceMax", 1.0 / (LEVELS - zero))]
    if gelu:
        needed.append(build.constant(GELU_LOWEST / zero, np.float32))
    else:
        needed += [part("ReduceMin", -1.0 / zero), build.constant(TINY, np.float32)]
    scales = build.node("Max", needed)
    # Processors divide several times slower than they multiply.
    divided = build.node("Mul", [name, build.node("Reciprocal", [scales])])
    one, middle = build.constant(1.0, np.float32), build.constant(zero, np.uint8)
    return _Quantised(build.node("QuantizeLinear", [divided, one, middle]), scales, middle)


def _multiply(build: Builder, product: onnx.NodeProto, x: _Quantised, matrix: Matrix) -> None:
    """`product` with `x` for its input, in the operator that ONNX Runtime's own fusion makes of such products."""
    weights, scales = quantise_weights(matrix)
    inputs = [
        x.levels,
        build.constant(weights, np.int8),
        build.constant(1.0, np.float32),
        build.constant(scales, np.float32),
        x.zero,
        build.constant(np.zeros(len(scales)), np.int8),
    ]
    raw = build.node("MatMulIntegerToFloat", inputs, domain=CONTRIB)
    build.nodes.append(helper.make_node("Mul", [raw, x.scales], [product.output[0]], f"{raw}/scaled"))
