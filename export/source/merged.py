"""A model with its adapter merged, or cut at an early exit, as a repository of its own: read from there like others."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from ...engine.errors import ExportError
from ...engine.models.artifact import Kind
from ..quiet import quiet
from .adapter import adapt, load_base
from .exits import cut
from .files import read_json
from .resolve import Origin


def merged(origin: Origin, kind: Kind, layer: int | None, folder: Path) -> Origin:
    """`origin` itself where it is whole; else the merged model, or its exit after `layer`, written to `folder`.

    Raises ExportError when the adapter does not fit, or has no exit after that layer.
    """
    if origin.adapter is None and layer is None:
        return origin
    if kind != "cross-encoder":
        raise ExportError("an adapter turns a base model into a cross-encoder; export it with --as cross-encoder")
    model = load_base(origin)
    if origin.adapter is not None:
        adapt(model, origin).merge_and_unload()  # in place
    if layer is not None:
        cut(model.transformers_model, layer, origin.trained)
    with quiet():
        model.float().save_pretrained(str(folder), create_model_card=False)
    return dataclasses.replace(origin, folder=folder)


def drop_code(folder: Path) -> None:
    """Take Python code, and every mention of it, out of what transformers saved: an artifact never holds code."""
    for file in folder.glob("*.py"):
        file.unlink()
    for name in ("config.json", "tokenizer_config.json"):
        said = read_json(folder, name)
        if said is not None and "auto_map" in said:
            del said["auto_map"]
            (folder / name).write_text(json.dumps(said, indent=2))
