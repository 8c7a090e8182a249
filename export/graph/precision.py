"""FP32 → FP16 and INT8 graphs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16

from ..quiet import quiet


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and arithmetic in FP16; inputs stay int64 and the output FP32."""
    with quiet():
        return convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)


def to_int8(model: onnx.ModelProto, file: Path, keep: Sequence[str] = ()) -> None:
    """Write `model` with int8 weights (symmetric, one scale an output channel) and activations quantised on the fly.

    keep: names of products that stay FP32

    Matrix products alone: the embedding table stays FP32, because a lookup is no faster in INT8 and its rounding would
    be the first error in every score. It is most of a small model's file (47 of 59 MB of MiniLM-L6).
    """
    with quiet():
        quantize_dynamic(
            model,
            file,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=list(keep),
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={
                "MatMulConstBOnly": True,
                "WeightSymmetric": True,
                "DefaultTensorType": onnx.TensorProto.FLOAT,
            },
        )
