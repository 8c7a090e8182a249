"""tandem info: what a folder holds, or what this machine would run on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import typer

from ..engine.errors import InputError
from .console import out, print_json

NAME = "info"


def command(
    folder: Path | None = typer.Argument(None, help="An artifact or a collection; without one, this machine."),
    device: str | None = typer.Option(None, help="cuda: how a collection and its models would lie in a GPU's memory."),
    gpu_memory_gib: float | None = typer.Option(None, help="Plan with so much GPU memory (default: what is here)."),
    encoder: Path | None = typer.Option(None, help="With --device: where the bi-encoder is now, if it was moved."),
    reranker: Path | None = typer.Option(None, help="With --device: where the cross-encoder is now, if it was moved."),
    json_output: bool = typer.Option(False, "--json", help="One JSON line on stdout."),
) -> None:
    """Show an artifact's or a collection's manifest, or the device that Tandem would use here and why.

    With --device cuda: the memory plan of a collection on a GPU, whether or not one is here; nothing is allocated.
    """
    if device not in (None, "cuda"):
        raise InputError(f"a memory plan is for --device cuda, not {device}")
    if device is not None and folder is None:
        raise InputError("a memory plan needs a collection: tandem info COLLECTION --device cuda")
    if folder is None:
        document = _machine()
    else:
        document = _folder(folder) if device is None else _memory(folder, encoder, reranker, gpu_memory_gib)
    if json_output:
        print_json(document)
    else:
        out().print(json.dumps(document, indent=2, ensure_ascii=False), markup=False)


def _folder(folder: Path) -> dict[str, Any]:
    from ..engine.artifact import MANIFEST, Artifact
    from ..engine.collection import Collection

    if (folder / MANIFEST).exists():
        artifact = Artifact.open(folder)
        return {"fingerprint": artifact.fingerprint, **artifact.manifest.model_dump()}
    collection = Collection.open(folder)
    return {"passages": len(collection), **collection.manifest.model_dump(mode="json")}


def _memory(folder: Path, encoder: Path | None, reranker: Path | None, gib: float | None) -> dict[str, Any]:
    from ..engine import gpu
    from ..engine.collection import Collection
    from ..engine.device import Device
    from ..engine.memory import available_memory, plan
    from ..engine.opening import artifact_of

    collection = Collection.open(folder)
    models = collection.manifest.models
    first = artifact_of(collection, models.encoder, encoder, "bi-encoder")
    second = None if models.reranker is None else artifact_of(collection, models.reranker, reranker, "cross-encoder")
    card = gpu.find()
    kind: Literal["cpu", "cuda"] = "cpu" if isinstance(card, str) else "cuda"
    available, capacity = available_memory(Device(kind, "planned", 1), gib)
    # Without a card here, the plan is for one where everything is installed.
    here = kind == "cuda"
    kernels, faiss = not here or gpu.torch_problem() is None, not here or gpu.faiss_problem() is None
    planned = plan(collection, first, second, available=available, capacity=capacity, kernels=kernels, faiss=faiss)
    return {"gpu": card if isinstance(card, str) else card.name, **planned.to_dict()}


def _machine() -> dict[str, Any]:
    import faiss
    import onnxruntime

    from ..engine import gpu
    from ..engine.device import choose

    device = choose("auto")
    card = gpu.find()
    return {
        "gpu": card if isinstance(card, str) else card.name,
        "packed_runtime": gpu.torch_problem() or "ready",
        "faiss_gpu": gpu.faiss_problem() or "ready",
        "device": device.kind,
        "reason": device.reason,
        "threads": device.threads,
        "onnxruntime": onnxruntime.__version__,
        "providers": onnxruntime.get_available_providers(),
        "faiss": faiss.__version__,
    }
