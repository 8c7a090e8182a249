"""What the kernels become on a GPU that is not there: compiled ahead of time, launch by launch.

The ops run on tensors without memory (PyTorch's `meta` device) while every launch is compiled instead of made, so that
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

from ...kernels import dispatch

TARGETS = (80, 90)


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


def report(ops: dict[str, Callable[[], Any]], targets: tuple[int, ...] = TARGETS) -> list[dict[str, Any]]:
    """Compile every different launch of `ops` (name → a call on `meta` tensors) for each target.

    A launch that becomes the same program as one of an op before it is left out. Raises ModuleNotFoundError without
    Triton.
    """
    rows: list[dict[str, Any]] = []
    seen = set()
    for op, call in ops.items():
        for target in targets:
            with compiling(target) as programs:
                call()
            for name, program in programs:
                if (name, program.hash) not in seen:
                    rows.append(asdict(_resources_of(op, name, target, program)))
                seen.add((name, program.hash))
    return rows


def compiler() -> str:
    """Which Triton compiles: the one imported, which need not be the one installed. Versions differ in registers."""
    import triton

    return f"Triton {triton.__version__}"


@contextmanager
def compiling(target: int) -> Iterator[list[tuple[str, Any]]]:
    """Kernels are compiled for compute capability `target` (80: A100, 90: H100) and not launched: names and programs.

    Triton is told of a card that is not there, and warms each launch up, which compiles it as a launch would.
    """
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    programs: list[tuple[str, Any]] = []
    launch = JITFunction.run

    def compile_only(kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        programs.append((kernel.__name__, launch(kernel, *args, grid=grid, warmup=True, **kwargs)))

    card = mock.Mock()
    card.get_current_device.return_value = target  # programs are cached by device
    card.get_current_stream.return_value = 0
    card.get_current_target.return_value = GPUTarget("cuda", target, 32)
    driver.set_active(card)
    try:
        with (
            mock.patch.object(JITFunction, "run", compile_only), mock.patch.object(dispatch, "interpreting", True),
            warnings.catch_warnings(),
        ):  # fmt: skip
            warnings.simplefilter("ignore")  # Triton 3.9 announces another default for fused multiply-add
            yield programs
    finally:
        driver.set_active(None)


def _resources_of(op: str, kernel: str, target: int, program: Any) -> Compiled:
    registers, spilled = _resources(program.asm["cubin"])
    found = re.search(r"(wgmma)\.mma_async|(mma)\.sync", program.asm["ptx"])
    return Compiled(
        op, kernel, target, registers, spilled, int(program.metadata.shared), int(program.metadata.num_warps),
        found[1] or found[2] if found else None,
    )  # fmt: skip


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
