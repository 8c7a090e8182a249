"""What the machine's GPUs are, asked of the driver itself: no PyTorch, no context on the card, no memory taken."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

_SUCCESS = 0
_NO_DEVICE = 100
# CUdevice_attribute of the driver API.
_MAJOR, _MINOR = 75, 76


@dataclass(frozen=True, slots=True)
class Gpu:
    """A card as the driver sees it: `memory` is its total in bytes, `capability` as in (9, 0) for an H100."""

    name: str
    memory: int
    capability: tuple[int, int]


@cache
def find() -> Gpu | str:
    """The first GPU that this process may use (CUDA_VISIBLE_DEVICES is honoured), or why there is none, in words."""
    driver = _started()
    return driver if isinstance(driver, str) else _describe(driver)


def count() -> int:
    """How many GPUs this process may use."""
    driver, found = _started(), ctypes.c_int()
    if isinstance(driver, str) or driver.cuDeviceGetCount(ctypes.byref(found)) != _SUCCESS:
        return 0
    return found.value


def _started() -> Any:
    """The driver, or why there is none with a GPU, in words."""
    try:
        driver: Any = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver (libcuda.so.1 is not found)"
    if (status := driver.cuInit(0)) == _NO_DEVICE:
        return "the NVIDIA driver finds no GPU"
    if status != _SUCCESS:
        return f"the NVIDIA driver cannot start (cuInit gives error {status})"
    count = ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) != _SUCCESS or count.value < 1:
        return "the NVIDIA driver finds no GPU"
    return driver


def _describe(driver: Any) -> Gpu | str:
    device, memory = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(128)
    major, minor = ctypes.c_int(), ctypes.c_int()
    calls: tuple[Callable[[], int], ...] = (
        lambda: driver.cuDeviceGet(ctypes.byref(device), 0),
        lambda: driver.cuDeviceGetName(name, len(name), device),
        lambda: driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device),
    )
    for call in calls:
        if (status := call()) != _SUCCESS:
            return f"the NVIDIA driver does not describe its first GPU (error {status})"
    return Gpu(name.value.decode(errors="replace"), memory.value, (major.value, minor.value))


def torch_problem() -> str | None:
    """Why PyTorch with our kernels cannot compute on this machine's GPU, None when it can. Imports PyTorch."""
    for module in ("torch", "triton", "safetensors"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed"
    import torch

    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is a build without CUDA"
    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} (CUDA {torch.version.cuda}) does not reach the GPU"
    return None


def faiss_problem() -> str | None:
    """Why FAISS cannot compute on this machine's GPU, None when it can.

    Asked before every other GPU function of FAISS: with no GPU those end the whole process.
    """
    try:
        import faiss
    except (ImportError, OSError) as error:  # OSError: a library of the driver's that it is linked to
        return f"FAISS cannot be imported ({error})"
    if not hasattr(faiss, "StandardGpuResources"):
        return f"FAISS {faiss.__version__} is a build without GPU support"
    if isinstance(gpu := find(), str):
        return gpu
    if faiss.get_num_gpus() < 1:
        return f"FAISS {faiss.__version__} sees no GPU"
    return None


def free_memory() -> int | None:
    """Bytes free on the GPU, by PyTorch, which makes its context there; None where that cannot be asked."""
    if isinstance(find(), str) or torch_problem() is not None:
        return None
    import torch

    return int(torch.cuda.mem_get_info()[0])
