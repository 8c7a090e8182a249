"""PyTorch → ONNX through optimum, with dynamic batch and length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optimum.exporters.onnx import export
from optimum.exporters.tasks import TasksManager

from ...engine.errors import ExportError
from ...engine.models.artifact import Kind
from ..quiet import quiet

# 17 has LayerNormalization as one operator, which fusion and ONNX Runtime's kernels start from.
OPSET = 17
TASKS: dict[Kind, str] = {"bi-encoder": "feature-extraction", "cross-encoder": "text-classification"}


def trace(model: Any, kind: Kind, file: Path) -> None:
    """Write `model` as an FP32 graph: int64 `input_ids`, `attention_mask` (and `token_type_ids`), each [batch, length],
    to `last_hidden_state` [batch, length, d] or `logits` [batch, 1].

    Raises ExportError when optimum cannot export it.
    """
    try:
        with quiet():
            config_of = TasksManager.get_exporter_config_constructor(
                exporter="onnx", model=model, task=TASKS[kind], library_name="transformers"
            )
            export(model, config_of(model.config), file, opset=OPSET)
    except Exception as error:  # torch.onnx's errors share no base class
        raise ExportError(f"optimum cannot export this model to ONNX: {error}") from error
