"""ONNX Runtime's transformer fusion, with the fused operators counted: a fusion that does not match is silent otherwise."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.transformers import optimizer
from onnxruntime.transformers.fusion_options import FusionOptions

from ..engine.errors import ExportError
from .quiet import quiet

FUSED_OPERATORS = frozenset(
    {"Attention", "MultiHeadAttention", "SkipLayerNormalization", "EmbedLayerNormalization", "LayerNormalization", "BiasGelu", "Gelu", "FastGelu"}
)  # fmt: skip


def fuse(traced: Path, config: Any) -> tuple[onnx.ModelProto, dict[str, int]]:
    """The traced graph with its transformer layers fused, and how many of each fused operator it has.

    Raises ExportError when a layer did not fuse. ModernBERT, for which ONNX Runtime has no fusion, is returned as traced.
    """
    if config.model_type == "modernbert":
        model = onnx.load(traced)
        return model, counts(model)
    options = FusionOptions("bert")
    with quiet():
        fused = optimizer.optimize_model(
            str(traced),
            "bert",
            num_heads=config.num_attention_heads,
            hidden_size=config.hidden_size,
            optimization_options=options,
            opt_level=0,
            use_gpu=False,
        )
    model = fused.model
    if not any(entry.domain == "com.microsoft" for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    found = counts(model)
    _check(found, config.num_hidden_layers)
    return model, found


def counts(model: onnx.ModelProto) -> dict[str, int]:
    """How often each fused operator occurs."""
    found = Counter(node.op_type for node in model.graph.node if node.op_type in FUSED_OPERATORS)
    return dict(sorted(found.items()))


def _check(found: dict[str, int], layers: int) -> None:
    attention = found.get("Attention", 0) + found.get("MultiHeadAttention", 0)
    gelu = found.get("BiasGelu", 0) + found.get("Gelu", 0) + found.get("FastGelu", 0)
    norms = found.get("SkipLayerNormalization", 0) + found.get("LayerNormalization", 0)
    for name, number, expected in (
        ("attention", attention, layers),
        ("GELU", gelu, layers),
        ("normalisation", norms, 2 * layers),
    ):
        if number < expected:
            raise ExportError(
                f"fusion found {number} of {expected} {name} operators, so the graph would run slowly; "
                "this model's layers differ from its family's"
            )
