"""Rotary positions as one operator: PyTorch's exporter writes them as seven, each a pass over queries or keys.

x · cos + rotated(x) · sin, Su et al. 2021, in the form that transformers computes: the second half of a head's numbers,
negated, stands before the first. ONNX Runtime's operator takes one half of the cosines, since both are the same; which
positions they are of is not its concern.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from onnx import helper

from .builder import CONTRIB, Builder, Wiring, attributes, drop_unused

NAME = "RotaryEmbedding"
# What may stand between the cosine of the angles and the product, and leaves a head's numbers where they are.
_PASSED = frozenset({"Unsqueeze", "Cast", "Identity"})


@dataclass(frozen=True, slots=True)
class _Rotation:
    """`x` [batch, heads, length, 2 · half], and the cosines and sines that it is multiplied by."""

    x: str
    cos: str
    sin: str
    half: int


def join_rotations(model: onnx.ModelProto) -> int:
    """Write every rotation of a graph for sequences that run alone as one node, in place; how many there were."""
    wiring, widths, joined = Wiring(model), _widths(model), 0
    tables: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        rotation = _rotation(node, wiring)
        if rotation is None or widths.get(rotation.x) != 2 * rotation.half:
            nodes.append(node)
            continue
        build = Builder(model.graph, f"{node.name}/rotary")
        _write(rotation, node.output[0], wiring, build, tables)
        nodes.extend(build.nodes)
        joined += 1
    if joined:
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        drop_unused(model)
    return joined


def _widths(model: onnx.ModelProto) -> dict[str, int]:
    """The last dimension of each tensor of which the exporter noted it."""
    noted = [*model.graph.value_info, *model.graph.input]
    shapes = {entry.name: entry.type.tensor_type.shape.dim for entry in noted}
    return {name: dims[-1].dim_value for name, dims in shapes.items() if dims}


def _write(rotation: _Rotation, output: str, wiring: Wiring, build: Builder, tables: dict[str, str]) -> None:
    """The operator on [batch, length, heads · width], and `output` [batch, heads, length, width] of it: the attention
    that reads it takes what lies before the last two nodes."""
    cos, sin = (
        tables.get(name) or tables.setdefault(name, _table(name, rotation.half, build))
        for name in (rotation.cos, rotation.sin)
    )
    transpose = wiring.writers.get(rotation.x)
    if transpose is not None and transpose.op_type == "Transpose" and attributes(transpose)["perm"] == [0, 2, 1, 3]:
        whole = str(transpose.input[0])
    else:
        whole = build.node("Transpose", [rotation.x], perm=[0, 2, 1, 3])
    flat = build.node("Reshape", [whole, build.constant([0, 0, -1])])
    turned = build.node(NAME, [flat, build.constant([0]), cos, sin], domain=CONTRIB)
    apart = build.node("Reshape", [turned, build.constant([0, 0, -1, 2 * rotation.half])])
    build.nodes.append(helper.make_node("Transpose", [apart], [output], f"{apart}/across", perm=[0, 2, 1, 3]))


def _table(name: str, half: int, build: Builder) -> str:
    """float32 [length, half] of cosines or sines [1, …, length, 2 · half], whose halves are the same."""
    first = build.node("Slice", [name, *(build.constant([value]) for value in (0, half, -1))])
    return build.node("Reshape", [first, build.constant([-1, half])])


def _rotation(node: onnx.NodeProto, wiring: Wiring) -> _Rotation | None:
    """What `node` rotates, where it is the last addition of a rotation."""
    if node.op_type != "Add":
        return None
    for plain, turned in (tuple(node.input), tuple(reversed(node.input))):
        for x, cos in _factors(plain, wiring):
            if not _are_twice(cos, "Cos", wiring):
                continue
            for rotated, sin in _factors(turned, wiring):
                half = _half(rotated, x, wiring)
                if half is not None and _are_twice(sin, "Sin", wiring):
                    return _Rotation(x, cos, sin, half)
    return None


def _factors(name: str, wiring: Wiring) -> Iterator[tuple[str, str]]:
    """Both factors of a product, in either order."""
    node = wiring.writers.get(name)
    if node is not None and node.op_type == "Mul":
        yield node.input[0], node.input[1]
        yield node.input[1], node.input[0]


def _are_twice(name: str, function: str, wiring: Wiring) -> bool:
    """Whether `name` is the cosine or sine of angles that stand there twice, one after the other."""
    node = wiring.writers.get(name)
    while node is not None and node.op_type != function:
        if node.op_type == "Mul" and any(
            value is not None and value.size == 1 for value in map(wiring.value, node.input)
        ):
            inner = [each for each in node.input if wiring.value(each) is None]
        elif node.op_type in _PASSED:
            inner = [node.input[0]]
        else:
            return False
        node = wiring.writers.get(inner[0]) if inner else None
    angles = None if node is None else wiring.writers.get(node.input[0])
    return (
        angles is not None and angles.op_type == "Concat" and attributes(angles)["axis"] == -1
        and len(angles.input) == 2 and angles.input[0] == angles.input[1]
    )  # fmt: skip


def _half(name: str, x: str, wiring: Wiring) -> int | None:
    """Where `name` is the second half of x's numbers, negated, before the first: how many numbers a half has."""
    joined = wiring.writers.get(name)
    if (
        joined is None
        or joined.op_type != "Concat"
        or attributes(joined)["axis"] not in (-1, 3)
        or len(joined.input) != 2
    ):
        return None
    negative, first = (wiring.writers.get(each) for each in joined.input)
    if negative is None or first is None or negative.op_type != "Neg":
        return None
    second = wiring.writers.get(negative.input[0])
    if second is None or any(part.op_type != "Slice" or part.input[0] != x for part in (first, second)):
        return None
    begin, end = _bounds(first, wiring)
    middle, _ = _bounds(second, wiring)
    return end if begin == 0 and end == middle else None


def _bounds(node: onnx.NodeProto, wiring: Wiring) -> tuple[int | None, int | None]:
    """Where a Slice of the last axis begins and ends; None: it is of another axis, or not said."""
    start, end, axes = (wiring.value(name) for name in node.input[1:4])
    if start is None or end is None or axes is None or axes.reshape(-1).tolist() not in ([3], [-1]):
        return None, None
    return int(start.reshape(-1)[0]), int(end.reshape(-1)[0])
