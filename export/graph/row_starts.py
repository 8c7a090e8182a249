"""Attention's mask as ONNX Runtime's memory-efficient attention takes it: each row's length, and where the rows start.

On CUDA that kernel is chosen for this form or for no mask. Lengths alone go to TensorRT's fused kernels; those end at
sm_89, and an H100 would compute products, softmax and products one after the other, with the scores [batch, heads,
length, length] in memory between.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from .builder import Builder


def row_starts(build: Builder) -> str:
    """The name of int32 [3 · batch + 2] made of `attention_mask`: lengths; starts of the queries' rows and their end;
    starts of the keys' and their end.

    A row is as long as the batch is padded to, and that number is counted from the mask: what Shape says lies on the
    CPU, and a graph with a node there cannot be captured. Counted by CumSum, a kernel of ONNX Runtime's own: ReduceSum
    of int32 is cuDNN's on CUDA, between two casts.
    """
    mask = build.node("Cast", ["attention_mask"], to=TensorProto.INT32)
    columns, last = build.constant(1), build.constant(-1)
    lengths = build.node("Gather", [build.node("CumSum", [mask, columns]), last], axis=1)
    ones = build.node("Add", [build.node("Mul", [mask, build.constant(0, np.int32)]), build.constant(1, np.int32)])
    widths = build.node("Gather", [build.node("CumSum", [ones, columns]), last], axis=1)
    ends = build.node("CumSum", [widths, build.constant(0)])
    starts = build.node("Sub", [ends, widths])
    end = build.node("Gather", [ends, build.constant([-1])], axis=0)
    return build.node("Concat", [lengths, starts, end, starts, end], axis=0)
