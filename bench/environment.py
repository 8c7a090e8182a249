"""What a result was measured on: without it a number means nothing."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from ..engine.platform import cpu_features
from ..engine.platform.device import available_cores

PACKAGES = (
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "faiss-cpu",
    "faiss-gpu",
    "tokenizers",
    "torch",
    "triton",
    "sentence-transformers",
    "transformers",
    "onnx",
    "hnswlib",
    "usearch",
    "bm25s",
)
# They change what a measurement means: which kernels BLAS picks, how many threads, how threads wait.
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "CUDA_VISIBLE_DEVICES")
FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


# Not counted as changes of what is measured.
_SAVED = (":(exclude,top)bench/results", ":(exclude,top)bench/RESULTS*.md")
_load: float | None = None


def begin() -> None:
    """Note the load before a benchmark makes its own: the card tells of others' work, not of what was measured."""
    global _load
    _load = os.getloadavg()[0]


def card() -> dict[str, Any]:
    """Day, processor, GPU, memory, load (see `begin`), versions, variables that matter, commit (None: no checkout)."""
    cores, flags = available_cores(), cpu_features.flags()
    load = os.getloadavg()[0] if _load is None else _load
    return {
        "day": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": cpu_features.field("model name") or platform.processor() or platform.machine(),
        "cpu_flags": [flag for flag in FLAGS if flag in flags],
        "gpu": _gpu(),
        "cores": cores,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load": round(load, 2),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "commit": _commit(),
    }


def line(environment: dict[str, Any]) -> str:
    """A card in one line for people."""
    packages = ", ".join(f"{name} {version}" for name, version in environment.get("packages", {}).items())
    variables = "".join(f", {name}={value}" for name, value in environment.get("variables", {}).items())
    day = f"{environment['day']}: " if "day" in environment else ""
    return (
        f"{day}{environment.get('gpu') or 'no GPU'}; {environment['cpu']}, {environment['cores']} cores "
        f"({', '.join(environment.get('cpu_flags', []))}), load {environment['load']}; Python {environment['python']}, "
        f"{packages}{variables}; commit {environment.get('commit') or 'unknown'}"
    )


def _gpu() -> str | None:
    """Name and driver of the first GPU as nvidia-smi says it, so that asking does not open a CUDA context."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    names = done.stdout.strip().splitlines()
    return names[0] if done.returncode == 0 and names else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit, `-dirty` where tracked files other than saved results differ: a run of several saves some."""
    try:
        commit = _git("describe", "--always")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", *_SAVED)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
