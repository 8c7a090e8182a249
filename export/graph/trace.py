"""PyTorch → ONNX with PyTorch's exporter, with dynamic batch and length."""

from __future__ import annotations

from pathlib import Path

import torch

from ...engine.errors import ExportError
from ..quiet import quiet

# 20 has Gelu as one operator, which quantisation and ONNX Runtime's kernels start from; 17 LayerNormalization.
OPSET = 20
EXAMPLE = (2, 24)
"""Sequences and tokens that are traced with; both are free in the graph."""


def trace(network: torch.nn.Module, inputs: tuple[str, ...], output: str, file: Path) -> None:
    """Write `network` as an FP32 graph of int64 `inputs`, each [batch, length], to `output`, with weights beside it.

    inputs: the names by which the network takes them

    Raises ExportError when PyTorch cannot export it.
    """
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    examples = {name: torch.full(EXAMPLE, int(name != "token_type_ids"), dtype=torch.int64) for name in inputs}
    try:
        with quiet(), torch.inference_mode():
            program = torch.onnx.export(
                network, (), kwargs=examples, dynamo=True, opset_version=OPSET, input_names=list(inputs),
                output_names=[output], dynamic_shapes={name: {0: batch, 1: length} for name in inputs}, verbose=False,
            )  # fmt: skip
            if program is None:
                raise RuntimeError("no program came back")
            program.save(file, external_data=True)
    except Exception as error:  # torch.onnx's errors share no base class
        raise ExportError(f"PyTorch cannot export this model to ONNX: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """The innermost cause on one line: PyTorch wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:300] or type(error).__name__
