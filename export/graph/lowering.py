"""The traced graph, written for a CPU or for a GPU: its attention, and its norms.

On a CPU each sequence runs alone, so nothing masks. ONNX Runtime's MultiHeadAttention and GroupQueryAttention then
never hold all scores at once (8,192 tokens of 16 heads of 64: .1 GiB, 4.3 in full), and windows are read in blocks.
Measured on one core (ONNX Runtime 1.32): 12 heads of 32, 152 tokens .50 ms, .53 in parts; 16 of 64, 4,096 tokens
592 ms, 1,473 in parts.

On a GPU sequences are padded to fixed shapes, and the mask is in the form that memory-efficient attention takes.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
import onnx
from onnx import helper

from ...engine.models.runtime.activations import IN_FULL
from .attention_node import Attention
from .block_attention import NAME as BLOCKS
from .block_attention import in_blocks
from .builder import CONTRIB, Builder, Wiring, attributes, drop_unused
from .rms_norm import join_rms_norms
from .rotary import NAME as ROTARY
from .rotary import join_rotations
from .row_starts import row_starts
from .traced_attention import DOMAIN, OPERATOR

Target = Literal["cpu", "gpu"]
COUNTED = frozenset(
    {
        "MultiHeadAttention", "GroupQueryAttention", "LayerNormalization", "SimplifiedLayerNormalization", "Gelu",
        ROTARY,
    }
)  # fmt: skip
# Which of MultiHeadAttention's inputs is a bias added to the scores.
BIAS = 5


def lower(model: onnx.ModelProto, target: Target) -> None:
    """Write the attention of a traced graph for `target`, in place."""
    if not any(entry.domain == CONTRIB for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    if target == "cpu":
        join_rotations(model)
    wiring = Wiring(model)
    shared: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.domain != DOMAIN or node.op_type != OPERATOR:
            nodes.append(node)
            continue
        attention, build = Attention.of(node), Builder(model.graph, node.name)
        if target == "gpu":
            _on_gpu(attention, wiring, build, shared)
        else:
            _on_cpu(attention, wiring, build, shared)
        nodes.extend(build.nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for place in reversed(range(len(model.opset_import))):
        if model.opset_import[place].domain == DOMAIN:
            del model.opset_import[place]
    drop_unused(model)
    _in_order(model)
    join_rms_norms(model)
    if target == "cpu":
        keep_norms_apart(model)


def counts(model: onnx.ModelProto, more: frozenset[str] = frozenset()) -> dict[str, int]:
    """How often each operator occurs that a fast graph has, or that is among `more`."""
    found = Counter(node.op_type for node in model.graph.node if node.op_type in COUNTED | more)
    found.update(BLOCKS for node in model.graph.node if _is_of_blocks(node))
    found.update(IN_FULL for node in model.graph.node if _in_full(node))
    return dict(sorted(found.items()))


def _is_of_blocks(node: onnx.NodeProto) -> bool:
    return bool(node.op_type == "MultiHeadAttention" and node.name.endswith(f"/{BLOCKS}"))


def _in_full(node: onnx.NodeProto) -> bool:
    """Whether a node is of an attention that holds all scores: its own products, or a bias that is added to them."""
    if node.op_type == "MultiHeadAttention":
        return bool(len(node.input) > BIAS and node.input[BIAS]) and not _is_of_blocks(node)
    return bool(node.op_type == "Softmax")


def keep_norms_apart(model: onnx.ModelProto) -> None:
    """Add → Sum, the same arithmetic, before a LayerNormalization.

    ONNX Runtime would otherwise join the two into SkipLayerNormalization when the session opens, whose CPU kernel adds
    up mean and variance one number at a time: 1.23 ms where Sum and LayerNormalization take .19 (MiniLM-L6, four
    sequences of 162 tokens, one core, ONNX Runtime 1.32).
    """
    writers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type == "LayerNormalization":
            before = writers.get(node.input[0])
            if before is not None and before.op_type == "Add":
                before.op_type = "Sum"


def _on_cpu(attention: Attention, wiring: Wiring, build: Builder, shared: dict[str, str]) -> None:
    query, key, value, *bias = attention.node.input
    if attention.window and not attention.causal:
        flat = [_flat(query, wiring, build), *(_all_heads(attention, name, wiring, build) for name in (key, value))]
        context = in_blocks(attention, flat, build, shared)
    elif attention.causal:
        flat = [_flat(name, wiring, build) for name in (query, key, value)]
        context = _grouped(attention, flat, build)
    else:
        context = _heads(attention, [query, key, value], wiring, build, bias=bias[0] if bias else "")
    _write(attention, context, build)


def _on_gpu(attention: Attention, wiring: Wiring, build: Builder, shared: dict[str, str]) -> None:
    """MultiHeadAttention of any form: a group's keys repeated, a window as a bias that all layers share."""
    query, key, value, *bias = attention.node.input
    mask = shared.get("mask") or row_starts(build)
    shared["mask"] = mask
    biased = bias[0] if bias else ""
    if attention.window:
        name = f"window {attention.window} {attention.causal}"
        biased = shared.get(name) or _window_bias(attention, build)
        shared[name] = biased
    context = _heads(attention, [query, key, value], wiring, build, bias=biased, mask=mask)
    _write(attention, context, build)


def _heads(
    attention: Attention, inputs: list[str], wiring: Wiring, build: Builder, *, bias: str = "", mask: str = ""
) -> str:
    """[batch, length, heads · width] by MultiHeadAttention."""
    query, key, value = inputs
    flat = [_flat(query, wiring, build), *(_all_heads(attention, name, wiring, build) for name in (key, value))]
    extra = {"unidirectional": 1} if attention.causal else {}
    return build.node(
        "MultiHeadAttention", [*flat, "", mask, bias], domain=CONTRIB, num_heads=attention.heads,
        scale=attention.scale, **extra,
    )  # fmt: skip


def _grouped(attention: Attention, flat: list[str], build: Builder) -> str:
    """[batch, length, heads · width] by GroupQueryAttention, which is causal: a first step without a past."""
    length = build.node("Shape", [flat[0]], start=1, end=2)
    batch = build.node("Shape", [flat[0]], start=0, end=1)
    short = build.node("Cast", [length], to=onnx.TensorProto.INT32)
    total = build.node("Squeeze", [short])
    last = build.node("Expand", [build.node("Sub", [short, build.constant([1], np.int32)]), batch])
    window = {"local_window_size": attention.window} if attention.window else {}
    return build.many(
        "GroupQueryAttention", [*flat, "", "", last, total], 3, domain=CONTRIB, num_heads=attention.heads,
        kv_num_heads=attention.key_heads, scale=attention.scale, **window,
    )[0]  # fmt: skip


def _window_bias(attention: Attention, build: Builder) -> str:
    """float32 [1, 1, length, length] for a GPU's fixed shapes: 0 within the window, the lowest number elsewhere."""
    length = build.node("Squeeze", [build.node("Shape", ["input_ids"], start=1, end=2)])
    places = build.node("Range", [build.constant(0), length, build.constant(1)])
    down, across = (build.node("Unsqueeze", [places, build.constant([axis])]) for axis in (1, 0))
    near = build.node(
        "Less", [build.node("Abs", [build.node("Sub", [down, across])]), build.constant(attention.window)]
    )
    lowest = build.constant(np.finfo(np.float32).min, np.float32)
    bias = build.node("Where", [near, build.constant(0.0, np.float32), lowest])
    return build.node("Unsqueeze", [bias, build.constant([0, 1])])


def _all_heads(attention: Attention, name: str, wiring: Wiring, build: Builder) -> str:
    """Keys or values [batch, length, heads · width], with a head for each of the queries'."""
    if attention.heads != attention.key_heads:
        each = attention.heads // attention.key_heads
        repeated = build.constant(np.repeat(np.arange(attention.key_heads), each))
        name = build.node("Gather", [name, repeated], axis=1)
    return _flat(name, wiring, build)


def _flat(name: str, wiring: Wiring, build: Builder) -> str:
    """[batch, length, heads · width] of [batch, heads, length, width]: what was reshaped and transposed, if it was."""
    transpose = wiring.writers.get(name)
    if transpose is not None and transpose.op_type == "Transpose" and attributes(transpose)["perm"] == [0, 2, 1, 3]:
        reshape = wiring.writers.get(transpose.input[0])
        if reshape is not None and reshape.op_type == "Reshape":
            return str(reshape.input[0])
        whole = str(transpose.input[0])
    else:
        whole = build.node("Transpose", [name], perm=[0, 2, 1, 3])
    return build.node("Reshape", [whole, build.constant([0, 0, -1])])


def _write(attention: Attention, context: str, build: Builder) -> None:
    """The context as the traced node gave it: [batch, length, heads, width]."""
    shape = build.constant([0, 0, attention.heads, attention.width])
    build.nodes.append(helper.make_node("Reshape", [context, shape], [attention.node.output[0]], f"{context}/out"))


def _in_order(model: onnx.ModelProto) -> None:
    """Nodes after those that write what they read: a shared mask or bias may be written where it was first wanted."""
    known = {entry.name for entry in (*model.graph.input, *model.graph.initializer)} | {""}
    waiting, ordered = list(model.graph.node), []
    while waiting:
        late = []
        for node in waiting:
            if known.issuperset(node.input):
                ordered.append(node)
                known.update(node.output)
            else:
                late.append(node)
        if len(late) == len(waiting):
            raise ValueError(f"nodes that wait for each other: {late[0].name}")
        waiting = late
    del model.graph.node[:]
    model.graph.node.extend(ordered)
