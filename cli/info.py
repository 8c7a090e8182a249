"""tandem info: what a folder holds, or what this machine would run on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from .console import out, print_json

NAME = "info"


def command(
    folder: Path | None = typer.Argument(None, help="An artifact or a collection; without one, this machine."),
    json_output: bool = typer.Option(False, "--json", help="One JSON line on stdout."),
) -> None:
    """Show an artifact's or a collection's manifest, or the device that Tandem would use here and why."""
    document = _machine() if folder is None else _folder(folder)
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


def _machine() -> dict[str, Any]:
    import faiss
    import onnxruntime

    from ..engine.device import choose

    device = choose("auto")
    return {
        "device": device.kind,
        "reason": device.reason,
        "threads": device.threads,
        "onnxruntime": onnxruntime.__version__,
        "providers": onnxruntime.get_available_providers(),
        "faiss": faiss.__version__,
    }
