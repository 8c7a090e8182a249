"""tandem info: what a folder holds, or what this machine would run on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Group

from ..engine.errors import InputError
from .console import print_json, show

if TYPE_CHECKING:  # a command imports what it needs when it runs
    from ..engine.models.artifact import Artifact
    from ..engine.models.memory import Chosen
    from ..engine.platform.cuda_driver import Gpu
    from ..engine.platform.device import Device

NAME = "info"
Told = tuple[dict[str, Any], Group]
"""What --json prints, and the page for people."""
EXAMPLES = (
    "tandem info",
    "tandem info collection",
    "tandem info collection --device cuda --gpu-memory-gib 24",
)


def command(
    folder: Path | None = typer.Argument(None, help="An artifact or a collection; without one, this machine."),
    device: str | None = typer.Option(None, help="cuda: how a collection and its models would lie in a GPU's memory."),
    gpu_memory_gib: float | None = typer.Option(None, help="Plan with so much GPU memory (default: what is here)."),
    encoder: Path | None = typer.Option(None, help="With --device: where the bi-encoder is now, if it was moved."),
    reranker: Path | None = typer.Option(None, help="With --device: another cross-encoder than its own."),
    json_output: bool = typer.Option(False, "--json", help="One JSON line on stdout."),
) -> None:
    """Show what a model or a collection is: sizes, counts, precisions; without a folder, what this machine runs on.

    With --device cuda: the memory plan of a collection on a GPU, whether or not one is here; nothing is allocated.
    """
    if device not in (None, "cuda"):
        raise InputError(f"a memory plan is for --device cuda, not {device}")
    if device is not None and folder is None:
        raise InputError("a memory plan needs a collection: tandem info COLLECTION --device cuda")
    document, page = (
        _machine_told()
        if folder is None
        else (_folder(folder) if device is None else _memory_told(folder, encoder, reranker, gpu_memory_gib))
    )
    if json_output:
        print_json(document)
    else:
        show(page)


def _folder(folder: Path) -> Told:
    from ..engine.collection import Collection
    from ..engine.models.artifact import MANIFEST, Artifact
    from .info_page import artifact_page, collection_page

    if (folder / MANIFEST).exists():
        artifact = Artifact.open(folder)
        return {"fingerprint": artifact.fingerprint, **artifact.manifest.model_dump()}, artifact_page(artifact)
    collection = Collection.open(folder)
    document = {
        "passages": len(collection),
        "fields": collection.facets.fields,
        **collection.manifest.model_dump(mode="json"),
    }
    return document, collection_page(collection)


def _memory_told(folder: Path, encoder: Path | None, reranker: Path | None, gib: float | None) -> Told:
    from .info_page import memory_page

    document = _memory(folder, encoder, reranker, gib)
    return document, memory_page(document)


def _machine_told() -> Told:
    from .info_page import machine_page

    document = _machine()
    return document, machine_page(document)


def _memory(folder: Path, encoder: Path | None, reranker: Path | None, gib: float | None) -> dict[str, Any]:
    from ..engine.collection import Collection
    from ..engine.collection.passage_text import PassageText
    from ..engine.platform import cuda_driver
    from ..engine.platform.device import Device
    from ..engine.search.gpu_memory import available_memory, plan
    from ..engine.search.model_lookup import encoder_of, reranker_of
    from ..engine.search.passage_ids import unstored

    collection = Collection.open(folder)
    first, second = encoder_of(collection, encoder), reranker_of(collection, reranker)
    text = None if second is None else PassageText.of(second, collection.manifest.settings)
    missing = None if second is None or text is None else unstored(collection, text, second)
    card = cuda_driver.find()
    available, capacity = available_memory(Device("cpu" if isinstance(card, str) else "cuda", "planned", 1), gib)
    device = _reached(card)
    kernels, faiss = (
        device is None or cuda_driver.torch_problem() is None,
        device is None or cuda_driver.faiss_problem() is None,
    )
    models = {"encoder": _chosen(first, device), **({} if second is None else {"reranker": _chosen(second, device)})}
    planned = plan(
        collection,
        models["encoder"],
        models.get("reranker"),
        available=available,
        capacity=capacity,
        stored=missing is None,
        kernels=kernels,
        faiss=faiss,
    )
    said = {name: str(model) for name, model in models.items()}
    staged = {} if missing is None else {"pipeline": f"staged: {missing}"}
    return {"gpu": card if isinstance(card, str) else card.name, **said, **staged, **planned.to_dict()}


def _reached(card: Gpu | str) -> Device | None:
    """The card as a device, where a runtime reaches it; None: to be planned as if everything were installed."""
    from ..engine.platform import cuda_driver
    from ..engine.platform.device import Device

    device = Device("cuda", "planned", 1)
    unreached = isinstance(card, str) or (cuda_driver.torch_problem() is not None and device.onnx_problem is not None)
    return None if unreached else device


def _chosen(artifact: Artifact, device: Device | None) -> Chosen:
    """What an engine with its default settings would run the model with."""
    from ..engine.models.memory import Chosen
    from ..engine.models.runtime import choose

    if device is None:
        return Chosen.expected(artifact)
    return Chosen(artifact, choose("auto", artifact, device, "auto", ()))


def _machine() -> dict[str, Any]:
    import faiss
    import onnxruntime

    from ..engine.platform import cuda_driver
    from ..engine.platform.device import choose

    device = choose("auto")
    card = cuda_driver.find()
    return {
        "gpu": card if isinstance(card, str) else card.name,
        "packed_runtime": cuda_driver.torch_problem() or "ready",
        "faiss_gpu": cuda_driver.faiss_problem() or "ready",
        "device": device.kind,
        "reason": device.reason,
        "threads": device.threads,
        "onnxruntime": onnxruntime.__version__,
        "providers": onnxruntime.get_available_providers(),
        "faiss": faiss.__version__,
    }
