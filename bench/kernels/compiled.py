"""What the kernels become on a GPU that is not there: compiled ahead of time, launch by launch.

The ops run on tensors without memory (PyTorch's `meta` device) while every launch is recorded instead of made, so that
what is compiled is what the launch rules would launch, with the same sizes, warps and stages. Triton's wheel brings the
assembler. This shows registers, shared memory, spills and the instructions used; not that a kernel runs, nor how fast.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from ...kernels import dispatch

TARGETS = (80, 90)
SHARED_LIMIT = {80: 163, 90: 227}
"""KB of shared memory that a program may have, by compute capability (CUDA C programming guide, table of limits)."""
_WHOLE = 16  # what pointers and sizes are divisible by, or not, when Triton specialises a launch


@dataclass(frozen=True, slots=True)
class Compiled:
    """One kernel as launched for one workload, compiled for one compute capability."""

    op: str
    kernel: str
    target: int
    registers: int
    spilled: int
    """Bytes of a thread that did not fit its registers."""
    shared: int
    """Bytes of a program."""
    warps: int
    tensor_cores: str | None
    """The matrix instruction: wgmma (sm_90), mma (sm_80), or none."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A recorded launch: the kernel and what it was given."""

    kernel: Any
    arguments: dict[str, Any]
    options: dict[str, Any]


def report(ops: dict[str, Callable[[], Any]], targets: tuple[int, ...] = TARGETS) -> list[dict[str, Any]]:
    """Compile every different launch of `ops` (name → a call on `meta` tensors) for each target.

    A launch that becomes the same program as one of an op before it is left out. Raises ModuleNotFoundError without
    Triton.
    """
    rows: list[dict[str, Any]] = []
    seen = set()
    for op, call in ops.items():
        with recording() as launches:
            call()
        for launch in launches:
            program = (launch.kernel, str(_specialised(launch)), str(launch.options))
            if program not in seen:
                rows.extend(asdict(build(op, launch, target)) for target in targets)
            seen.add(program)
    return rows


def compiler() -> str:
    """Which Triton compiles: the one imported, which need not be the one installed. Versions differ in registers."""
    import triton

    return f"Triton {triton.__version__}"


@contextmanager
def recording() -> Iterator[list[Launch]]:
    """Launches of kernels are appended to the list it gives, and not made."""
    from triton.runtime.jit import JITFunction

    launches: list[Launch] = []

    def record(kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        names = [parameter.name for parameter in kernel.params]
        options = {name: value for name, value in kwargs.items() if name not in names}
        arguments = dict(zip(names, args, strict=False)) | {n: v for n, v in kwargs.items() if n in names}
        launches.append(Launch(kernel, arguments, options))

    with mock.patch.object(JITFunction, "run", record), mock.patch.object(dispatch, "interpreting", True):
        yield launches


def build(op: str, launch: Launch, target: int) -> Compiled:
    """Compile a recorded launch for compute capability `target` (80: A100, 90: H100)."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, constants, attributes = _specialised(launch)
    source = ASTSource(fn=launch.kernel, signature=signature, constexprs=constants, attrs=attributes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Triton 3.9 announces another default for fused multiply-add
        binary = triton.compile(source, target=GPUTarget("cuda", target, 32), options=launch.options)
    registers, spilled = _resources(binary.asm["cubin"])
    found = re.search(r"(wgmma)\.mma_async|(mma)\.sync", binary.asm["ptx"])
    return Compiled(
        op, launch.kernel.__name__, target, registers, spilled, int(binary.metadata.shared),
        int(binary.metadata.num_warps), found[1] or found[2] if found else None,
    )  # fmt: skip


def _specialised(launch: Launch) -> tuple[dict[str, str], dict[str, Any], dict[tuple[int], list[list[Any]]]]:
    """Signature, constants and divisibility of a launch, as Triton's own launcher specialises its arguments."""
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[tuple[int], list[list[Any]]] = {}
    for place, parameter in enumerate(launch.kernel.params):
        name, value = parameter.name, launch.arguments[parameter.name]
        if parameter.is_constexpr or (isinstance(value, int) and value == 1):
            signature[name], constants[name] = "constexpr", value
            continue
        signature[name] = _type_of(value)
        if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % _WHOLE == 0):
            attributes[(place,)] = [["tt.divisibility", _WHOLE]]
    return signature, constants, attributes


def _type_of(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        from triton.runtime.jit import mangle_type

        return str(mangle_type(value))
    if isinstance(value, float):
        return "fp32"
    return "i32" if -(2**31) <= value < 2**31 else "i64"


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers and bytes of stack of a thread, as cuobjdump tells them."""
    from triton import knobs

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(path)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r"REG:(\d+)", told), re.search(r"STACK:(\d+)", told)
    assert registers is not None, told
    assert stack is not None, told
    return int(registers[1]), int(stack[1])
