"""A test of an op runs three ways: the reference on the CPU, the kernel on a GPU, the kernel in Triton's interpreter.

The interpreter needs a process of its own, started with TRITON_INTERPRET=1 (by `test_interpreter.py`): there the same
tests run on CPU tensors through the kernels.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch

from tandem.kernels import dispatch

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Where the op's tensors lie, and with it which implementation answers."""
    if request.param == "cuda" and (INTERPRETING or not torch.cuda.is_available()):
        pytest.skip("no CUDA device")
    monkeypatch.setattr(dispatch, "interpreting", INTERPRETING)
    return torch.device(request.param)


@pytest.fixture(params=[torch.float32, torch.float16, torch.bfloat16], ids=["fp32", "fp16", "bf16"])
def dtype(request: pytest.FixtureRequest, device: torch.device) -> torch.dtype:
    """Of the op's tensors. Triton's interpreter is silently wrong in bf16 (triton#4972)."""
    if request.param == torch.bfloat16 and INTERPRETING:
        pytest.skip("Triton's interpreter is wrong in bf16")
    return request.param


def captured(run: Callable[[], tuple[torch.Tensor, ...]]) -> tuple[Callable[[], None], tuple[torch.Tensor, ...]]:
    """`run` in a CUDA graph after a warm-up: what replays it, and its outputs."""
    for _ in range(2):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = run()
    return graph.replay, outputs
