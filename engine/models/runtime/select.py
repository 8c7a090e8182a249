"""Which runtime and precision a model gets on a device, and why, in words for a log."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

from ...errors import DeviceError, InputError
from ...platform import cuda_driver
from ...platform.device import Device
from ..artifact import WEIGHTS, Artifact, ModelSize, Precision
from .activations import IN_FULL, Activations
from .base import POOLINGS, Runtime, RuntimeName
from .families import score_problem, shape_of
from .onnx import OnnxRuntime, Split

RuntimeWish = Literal["auto", "onnx", "packed"]
PrecisionWish = Precision | Literal["auto"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What runs a model; `reason` says why it is this runtime."""

    runtime: RuntimeName
    precision: Precision
    reason: str


def choose(
    wish: RuntimeWish, artifact: Artifact, device: Device, precision: PrecisionWish, cpu_order: tuple[Precision, ...]
) -> Choice:
    """Decide; `cpu_order` are the precisions preferred on a CPU.

    `auto` is packed on a GPU where it supports the model, ONNX Runtime otherwise: on a CPU the packed runtime is the
    reference implementation, exact and slow.

    Raises InputError for an unknown runtime or one that cannot run this model, DeviceError when no runtime can.
    """
    if wish not in ("auto", "onnx", "packed"):
        raise InputError(f"runtime {wish!r} is unknown; choose auto, onnx or packed")
    onnx = choose_precision(precision, artifact, device, cpu_order)
    if wish == "onnx" and device.onnx_problem is not None:
        raise DeviceError(f"runtime onnx was asked for, but {device.onnx_problem}; install tandem[gpu]")
    if wish == "onnx":
        return _onnx(onnx, device, "asked for")
    if wish == "auto" and device.kind == "cpu":
        return Choice("onnx", onnx, "ONNX Runtime is the fast one on a CPU")
    problem = packed_problem(artifact, device, precision)
    if problem is None:
        packed: Precision = "fp16" if device.kind == "cuda" else "fp32"
        return Choice("packed", packed, "asked for" if wish == "packed" else "no padding, and it supports the model")
    if wish == "packed":
        raise InputError(f"the packed runtime cannot run {artifact.manifest.name}: {problem}; use runtime=auto or onnx")
    if device.onnx_problem is not None:
        raise DeviceError(
            f"nothing can run {artifact.manifest.name} on this GPU: the packed runtime does not ({problem}), and "
            f"{device.onnx_problem}; install tandem[gpu], or use device=cpu"
        )
    return _onnx(onnx, device, f"the packed runtime does not run this model: {problem}")


def _onnx(precision: Precision, device: Device, reason: str) -> Choice:
    """ONNX Runtime, unless its graph of that precision is another device's: those of CPUs read one sequence a run."""
    if device.kind == "cuda" and precision != "fp16":
        raise InputError(f"graphs in {precision} are for CPUs, where each sequence runs alone; on a GPU ask for fp16")
    return Choice("onnx", precision, reason)


def choose_precision(
    wanted: PrecisionWish, artifact: Artifact, device: Device, cpu_order: tuple[Precision, ...]
) -> Precision:
    """`wanted`, or under `auto` the first the artifact has of FP16 (GPU) or of `cpu_order` (CPU)."""
    if wanted != "auto":
        return wanted
    preferred: tuple[Precision, ...] = ("fp16",) if device.kind == "cuda" else cpu_order
    return next((precision for precision in preferred if precision in artifact.manifest.variants), preferred[-1])


def packed_problem(artifact: Artifact, device: Device, precision: PrecisionWish) -> str | None:
    """Why the packed runtime cannot run this model here, None when it can."""
    own: Precision = "fp16" if device.kind == "cuda" else "fp32"
    if precision not in ("auto", own):
        return f"it computes in {own} on this device, and {precision} was asked for"
    if (problem := shape_problem(artifact)) is not None:
        return problem
    if device.kind == "cuda":
        return cuda_driver.torch_problem()
    missing = next((name for name in ("torch", "safetensors") if importlib.util.find_spec(name) is None), None)
    return None if missing is None else f"{missing} is not installed"


def shape_problem(artifact: Artifact) -> str | None:
    """Why the packed runtime does not know this kind of model, None when it does."""
    manifest, config = artifact.manifest, artifact.architecture()
    if manifest.kind == "bi-encoder" and manifest.pooling not in POOLINGS:
        return (
            f"it pools by {manifest.pooling or 'more than one step'}, and the packed runtime by {', '.join(POOLINGS)}"
        )
    shape = shape_of(config)
    if isinstance(shape, str):
        return shape
    if manifest.kind == "cross-encoder" and (problem := score_problem(config)) is not None:
        return problem
    if manifest.dimension not in (None, shape.width):
        return f"its vectors have {manifest.dimension} of the {shape.width} numbers of its hidden states"
    if WEIGHTS not in manifest.files:
        return f"the artifact has no {WEIGHTS}"
    return None


def arena_limit(graph_bytes: int, size: ModelSize, longest: int) -> int:
    """Bytes that ONNX Runtime's arena may grow to: a bound against runaway growth, some twice what batches need.

    Weights twice (they are packed when a session opens), 16k tokens of every intermediate of a layer in FP32, scores of
    an attention that is not fused, where each token has one with each of `longest`, and a gibibyte.
    """
    tokens = 16_384
    intermediates = 4 * tokens * (12 * size.width + 2 * size.wide)
    return 2 * graph_bytes + intermediates + 4 * tokens * longest * size.heads + 2**30


def open_runtime(choice: Choice, artifact: Artifact, device: Device, split: Split) -> Runtime:
    """The runtime that was chosen, with the artifact's verified files.

    Raises ArtifactError when the artifact is damaged or has no such precision, DeviceError when the GPU refuses.
    """
    manifest = artifact.manifest
    if choice.runtime == "packed":
        from .packed import PackedRuntime

        return PackedRuntime.open(artifact, device=device)
    graph = artifact.graph(choice.precision)
    if device.kind == "cpu":
        in_full = IN_FULL in manifest.variants[choice.precision].fused
        return OnnxRuntime(
            graph, device=device, split=split, activations=Activations.of(manifest.size, in_full=in_full)
        )
    from .onnx_cuda import CudaOptions, OnnxCudaRuntime

    variant = manifest.variants[choice.precision].file
    size = sum(record.size for name, record in manifest.files.items() if name.startswith(variant))
    options = CudaOptions(memory=arena_limit(size, manifest.size, manifest.max_length))
    return OnnxCudaRuntime(
        graph, pad_id=manifest.pad_id, dimension=manifest.dimension, max_length=manifest.max_length, device=device,
        options=options,
    )  # fmt: skip
