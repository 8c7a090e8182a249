"""Channels of a product's input that are louder than others, made quieter before INT8, and their weights louder.

A run's activations share one INT8 scale, which the largest of them sets. In BERT-like models that is one channel of one
token: of the bundled reranker, 28 at [CLS], where the other tokens' largest are 3 to 8. Dividing that channel and
multiplying its row of the weights changes nothing in FP32, and weights have a scale for each output. Xiao et al. 2023
("SmoothQuant") do so with all channels; here those above a threshold are brought down to it.

The threshold is computed for each input: the one with the least error that rounding is expected to make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from .builder import drop_unused
from .products import LEVELS, WEIGHT_LEVELS, Matrix, Products, matrices_of

NAME = "SmoothedInputs"
# The thresholds that are tried: the maximum of the so-manieth loudest channel. With the first, nothing changes.
RANKS = (1, 2, 4, 8, 16, 32, 64, 128)
# Smoothing is one more pass over the input. It is done where it takes a quarter or more of the error away.
WORTH = 0.75
Channels = npt.NDArray[np.float32]
Run = Callable[[onnx.ModelProto], Iterable[list[npt.NDArray[np.float32]]]]
"""A graph with other outputs → those outputs, each [..., channels], on some texts."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What each channel of a tensor was on some texts, float32 [channels]; `power` is the mean of its square."""

    lowest: Channels
    highest: Channels
    power: Channels


def smooth(model: onnx.ModelProto, products: Products, run: Run) -> int:
    """Smooth the inputs of `products` of `model` in place, where it is worth it; how many were.

    run: see `Run`; the texts decide which channels are loud
    """
    factors: dict[str, Channels] = {}
    for name, seen in _watch(model, list(products), run).items():
        found = factors_of(seen, matrices_of(model, products[name]))
        if found is not None:
            factors[name] = found
    build: list[onnx.NodeProto] = []
    readers = {node.output[0]: name for name in factors for node in products[name]}
    divided: set[str] = set()
    for node in model.graph.node:
        reads = readers.get(node.output[0])
        if reads is not None:
            if reads not in divided:
                divided.add(reads)
                build.append(_division(model, reads, factors[reads]))
            _read_divided(model, node, reads, factors[reads])
        build.append(node)
    del model.graph.node[:]
    model.graph.node.extend(build)
    drop_unused(model)
    return len(factors)


def factors_of(seen: Seen, weights: list[Matrix]) -> Channels | None:
    """What to multiply each channel of an input with, float32 [channels], at most 1; None where it is not worth it.

    weights: of the products that read the input, each float32 [channels, outputs]
    """
    loudness = np.maximum(-seen.lowest, seen.highest)
    thresholds = np.sort(loudness)[::-1][[rank - 1 for rank in RANKS if rank <= len(loudness)]]
    tried = [limit / np.maximum(loudness, limit) for limit in thresholds if limit > 0.0]
    if not tried:
        return None
    errors = [expected_error(seen, weights, factors) for factors in tried]
    best = int(np.argmin(errors))
    return tried[best] if errors[best] < WORTH * errors[0] else None


def expected_error(seen: Seen, weights: list[Matrix], factors: Channels) -> float:
    """The sum over a token's outputs of the squared error that INT8 makes, if every rounding is by itself.

    A value rounded to steps of s is off by s² / 12 in the mean square. An activation's step is a part of the run's
    range, and meets the squares of its weights. A weight's is a part of its output's largest, and meets its channel's
    power.
    """
    lowest, highest = (seen.lowest * factors).min(), (seen.highest * factors).max()
    step = (max(float(highest), 0.0) - min(float(lowest), 0.0)) / LEVELS
    power = float((seen.power * factors**2).sum())
    error = 0.0
    for weight in weights:
        louder = weight / factors[:, None]
        weight_steps = np.abs(louder).max(axis=0) / WEIGHT_LEVELS
        error += step**2 * float((louder**2).sum()) + float((weight_steps**2).sum()) * power
    return error / 12


def _watch(model: onnx.ModelProto, names: list[str], run: Run) -> dict[str, Seen]:
    """What the tensors `names` are on the texts of `run`."""
    if not names:
        return {}
    own = list(model.graph.output)
    _replace_outputs(model, [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names])
    found: dict[str, list[Seen]] = {name: [] for name in names}
    for outputs in run(model):
        for name, output in zip(names, outputs, strict=True):
            rows = output.reshape(-1, output.shape[-1])
            found[name].append(Seen(rows.min(axis=0), rows.max(axis=0), np.square(rows).mean(axis=0)))
    _replace_outputs(model, own)
    return {name: _together(texts) for name, texts in found.items()}


def _replace_outputs(model: onnx.ModelProto, outputs: Sequence[onnx.ValueInfoProto]) -> None:
    del model.graph.output[:]
    model.graph.output.extend(outputs)


def _together(texts: list[Seen]) -> Seen:
    """The same of several texts, each of which counts once in `power`."""
    return Seen(
        np.min([text.lowest for text in texts], axis=0),
        np.max([text.highest for text in texts], axis=0),
        np.mean([text.power for text in texts], axis=0),
    )


def _division(model: onnx.ModelProto, name: str, factors: Channels) -> onnx.NodeProto:
    model.graph.initializer.append(numpy_helper.from_array(factors, f"{name}/smooth/factors"))
    return helper.make_node("Mul", [name, f"{name}/smooth/factors"], [f"{name}/smooth"], f"{name}/smooth")


def _read_divided(model: onnx.ModelProto, product: onnx.NodeProto, name: str, factors: Channels) -> None:
    """Give `product` weights of its own, since others may read those that it has, and the divided input."""
    louder = f"{product.output[0]}/smooth/weights"
    matrix = matrices_of(model, [product])[0] / factors[:, None]
    model.graph.initializer.append(numpy_helper.from_array(matrix, louder))
    product.input[0], product.input[1] = f"{name}/smooth", louder
