"""Which device computes, decided once, with the reason that is logged and reported."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnxruntime

from ..errors import DeviceError, InputError
from . import cuda_driver

log = logging.getLogger(__name__)

DeviceName = Literal["auto", "cpu", "cuda"]
_CUDA_PROVIDER = "CUDAExecutionProvider"


@dataclass(frozen=True, slots=True)
class Device:
    """Where the models run. `reason` says why, in words for a log; `threads` is what a CPU session may use."""

    kind: Literal["cpu", "cuda"]
    reason: str
    threads: int

    @property
    def providers(self) -> list[str]:
        """ONNX Runtime's execution providers for this device."""
        return [_CUDA_PROVIDER] if self.kind == "cuda" else ["CPUExecutionProvider"]

    @property
    def onnx_problem(self) -> str | None:
        """Why ONNX Runtime cannot run on this device, None when it can."""
        if set(self.providers) <= set(onnxruntime.get_available_providers()):
            return None
        return f"ONNX Runtime {onnxruntime.__version__} here has no CUDA provider"


def choose(name: str = "auto", threads: int | None = None) -> Device:
    """Decide the device. A GPU that was asked for and is missing is an error; `auto` without one says so in the log.

    A GPU counts when the driver shows one and a runtime reaches it: ONNX Runtime's CUDA provider, or PyTorch with
    Triton for the packed runtime. Which of the two a model gets is decided by `runtime.choose`.

    Raises InputError for an unknown name or thread count, DeviceError for a missing GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device {name!r} is unknown; choose auto, cpu or cuda")
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}; give at least 1, or leave it out for one a core")
    threads = threads or available_cores()
    if name == "cpu":
        return Device("cpu", "the CPU was asked for", threads)
    found = _cuda(threads)
    if isinstance(found, Device):
        return found
    if name == "cuda":
        raise DeviceError(f"device cuda was asked for, but {found}; use device=cpu, or a machine with tandem[gpu]")
    log.warning("no GPU: running on the CPU with %d threads (%s)", threads, found)
    return Device("cpu", f"auto: {found}", threads)


def _cuda(threads: int) -> Device | str:
    """The GPU with the reason it can be used, or why it cannot."""
    card = cuda_driver.find()
    if isinstance(card, str):
        return card
    name = f"{card.name}, {card.memory / 2**30:.0f} GiB, sm_{card.capability[0]}{card.capability[1]}"
    if _CUDA_PROVIDER in onnxruntime.get_available_providers():
        return Device("cuda", f"{name}; ONNX Runtime has its CUDA provider", threads)
    if (problem := cuda_driver.torch_problem()) is None:
        return Device("cuda", f"{name}; PyTorch reaches it (ONNX Runtime here has no CUDA provider)", threads)
    return (
        f"no runtime reaches the {card.name}: ONNX Runtime {onnxruntime.__version__} here has no CUDA provider, and "
        f"{problem}; install tandem[gpu] in place of tandem[cpu]"
    )


def available_cores() -> int:
    """Cores this process may use: its affinity, capped by the control group's CPU quota (containers), at least 1."""
    cores = len(os.sched_getaffinity(0))
    quota = _cgroup_quota(Path("/sys/fs/cgroup/cpu.max"))
    return max(1, min(cores, math.floor(quota))) if quota else cores


def _cgroup_quota(path: Path) -> float | None:
    """Cores granted by a cgroup-v2 `cpu.max` file ("quota period", microseconds), None without a limit."""
    try:
        quota, period = path.read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)
