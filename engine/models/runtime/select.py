"""Which runtime and precision a model gets on a device, and why, in words for a log."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, Literal

from ...errors import DeviceError, InputError
from ...platform import cuda_driver
from ...platform.device import Device
from ..artifact import WEIGHTS, Artifact, Precision
from .base import Head, Runtime, RuntimeName
from .onnx import OnnxRuntime, Split

RuntimeWish = Literal["auto", "onnx", "packed"]
PrecisionWish = Precision | Literal["auto"]
# Widths of a head that the attention knows (`kernels.attention.HEAD_DIMS`, which would import PyTorch).
HEAD_WIDTHS = (16, 32, 64, 128)


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
        return Choice("onnx", onnx, "asked for")
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
    return Choice("onnx", onnx, f"the packed runtime does not run this model: {problem}")


def choose_precision(
    wanted: PrecisionWish, artifact: Artifact, device: Device, cpu_order: tuple[Precision, ...]
) -> Precision:
    """`wanted`, or under `auto` the first the artifact has of FP16 (GPU) or of `cpu_order` (CPU)."""
    if wanted != "auto":
        return wanted
    preferred: tuple[Precision, ...] = ("fp16", "fp32") if device.kind == "cuda" else cpu_order
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
    config = artifact.architecture()
    family = config.get("model_type")
    if family != "bert":
        return f"its family is {family}, and the packed runtime knows BERT"
    if config.get("hidden_act", "gelu") != "gelu":
        return f"its activation is {config['hidden_act']}, not gelu"
    if config.get("position_embedding_type", "absolute") != "absolute":
        return f"its positions are {config['position_embedding_type']}, not absolute"
    if config.get("is_decoder", False):
        return "it is a decoder"
    width = config["hidden_size"] // config["num_attention_heads"]
    if width not in HEAD_WIDTHS:
        return f"its heads are {width} wide, and the attention kernel takes {' or '.join(map(str, HEAD_WIDTHS))}"
    if WEIGHTS not in artifact.manifest.files:
        return f"the artifact has no {WEIGHTS}"
    return None


def arena_limit(graph_bytes: int, config: dict[str, Any]) -> int:
    """Bytes that ONNX Runtime's arena may grow to: a bound against runaway growth, some twice what batches need.

    Weights twice (they are packed when a session opens), 16k tokens of every intermediate of a layer in FP32, scores of
    an attention that is not fused, and a gibibyte.
    """
    tokens, longest = 16_384, 512
    width, wide, heads = (int(config[name]) for name in ("hidden_size", "intermediate_size", "num_attention_heads"))
    return 2 * graph_bytes + 4 * tokens * (12 * width + 2 * wide) + 4 * tokens * longest * heads + 2**30


def open_runtime(choice: Choice, artifact: Artifact, head: Head, device: Device, split: Split) -> Runtime:
    """The runtime that was chosen, with the artifact's verified files.

    Raises ArtifactError when the artifact is damaged or has no such precision, DeviceError when the GPU refuses.
    """
    manifest = artifact.manifest
    if choice.runtime == "packed":
        from .packed import PackedRuntime

        return PackedRuntime.open(artifact, head=head, device=device)
    graph = artifact.graph(choice.precision)
    if device.kind == "cuda":
        from .onnx_cuda import CudaOptions, OnnxCudaRuntime

        variant = manifest.variants[choice.precision].file
        size = sum(record.size for name, record in manifest.files.items() if name.startswith(variant))
        options = CudaOptions(memory=arena_limit(size, artifact.architecture()))
        return OnnxCudaRuntime(
            graph,
            pad_id=manifest.pad_id,
            head=head,
            width=1 if head == "logit" else manifest.dimension or 0,
            max_length=manifest.max_length,
            device=device,
            options=options,
        )
    return OnnxRuntime(
        graph, pad_id=manifest.pad_id, head=head, device=device, split=split, alone=choice.precision == "int8"
    )
