from __future__ import annotations

import pytest

from tandem.engine.errors import DeviceError, InputError, OutOfMemory
from tandem.engine.platform.device_errors import translated


class AcceleratorError(RuntimeError):
    """As PyTorch names it."""


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), OutOfMemory),
        (RuntimeError("bfc_arena.cc: Failed to allocate memory for requested buffer"), OutOfMemory),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), OutOfMemory),
        (MemoryError(), OutOfMemory),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), DeviceError),
        (RuntimeError("CUDNN_STATUS_EXECUTION_FAILED"), DeviceError),
        (AcceleratorError("something"), DeviceError),
        (RuntimeError("Triton Error [CUDA]: unknown error"), DeviceError),
        (RuntimeError("Triton Error [CUDA]: out of memory"), OutOfMemory),
        (InputError("mine"), InputError),
        (ValueError("of the request"), ValueError),
    ],
)
def test_faults_are_told_apart(raised: Exception, expected: type[Exception]):
    with pytest.raises(expected) as caught, translated("a test"):
        raise raised
    assert type(caught.value) is expected


def test_nothing_happens_without_a_fault():
    with translated("a test"):
        pass
