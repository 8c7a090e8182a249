"""What a runtime raises, told apart: too little memory, a device that stopped working, or the request's own fault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import DeviceError, OutOfMemory, TandemError

# PyTorch raises a class of its own for memory, ONNX Runtime and FAISS only say it.
_MEMORY = ("out of memory", "failed to allocate memory", "cudaerrormemoryallocation", "alloc_failed", "alloc failed")
# After an illegal address, a failed assertion or a lost card a context answers every later call with an error, and what
# it still gives may be wrong.
_BROKEN = (
    "cuda error", "cuda failure", "cudnn failure", "cublas failure", "cublas_status", "cudnn_status", "cudaerror",
    "illegal memory access", "device-side assert", "unspecified launch failure", "cuda_error", "triton error [cuda]",
)  # fmt: skip


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Run device work: its exceptions leave as OutOfMemory, DeviceError (nothing may run any more) or as they were."""
    try:
        yield
    except TandemError:
        raise
    except Exception as error:  # the libraries' exceptions share no base class
        said = str(error).lower()
        names = {kind.__name__ for kind in type(error).__mro__}
        if "OutOfMemoryError" in names or isinstance(error, MemoryError) or any(word in said for word in _MEMORY):
            raise OutOfMemory(f"the device's memory does not suffice for {what}: {error}") from error
        if "AcceleratorError" in names or any(word in said for word in _BROKEN):
            raise DeviceError(
                f"the GPU stopped working during {what} ({error}); the engine refuses further work, since a broken "
                "CUDA context may answer wrongly: open it again in a new process"
            ) from error
        raise
