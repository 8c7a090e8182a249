"""What the processor can do, as the operating system lists it."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

_LIST = Path("/proc/cpuinfo")
# Products of bytes summed in 32 bits, as AVX-512 and as AVX2 registers have them.
_VNNI = {"avx512_vnni", "avx_vnni"}
# Intel and AMD by two names, Arm.
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}


@cache
def field(name: str, path: Path = _LIST) -> str | None:
    """The first value of `name` in /proc/cpuinfo, None where there is no such file or field."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == name), None)


def flags(path: Path = _LIST) -> frozenset[str]:
    """Instruction sets by the kernel's names; empty where it lists none."""
    return frozenset((field("flags", path) or field("Features", path) or "").split())


def int8_overflows(path: Path = _LIST, machine: str | None = None) -> bool:
    """Whether ONNX Runtime's fastest products of uint8 and int8 are wrong here.

    x86 without VNNI sums two products of 255 * 127 in a signed 16-bit register that ends at 32,767. What lists no
    instruction sets is taken for such a processor: slower is better than wrong.
    """
    return (machine or platform.machine()).lower() in ("x86_64", "amd64") and not flags(path) & _VNNI


def has_bfloat16(path: Path = _LIST) -> bool:
    """Whether bfloat16 products have instructions of their own; PyTorch emulates them, far below FP32's rate."""
    return bool(flags(path) & _BFLOAT16)
