"""A model with its adapter merged, as a repository of its own: from there on it is read like any other."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

from ...engine.errors import ExportError
from ...engine.models.artifact import Kind
from ..quiet import quiet
from .files import read_json
from .layout import transformer_folder
from .resolve import Origin

_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "sentencepiece.bpe.model",
)  # fmt: skip


def merged(origin: Origin, kind: Kind, layer: int | None, folder: Path) -> Origin:
    """`origin` itself where it has no adapter; else the merged model, or its exit after `layer`, written to `folder`.

    Raises ExportError when the adapter does not fit.
    """
    if origin.adapter is None:
        return origin
    if kind != "cross-encoder":
        raise ExportError("an adapter turns a base model into a cross-encoder; export it with --as cross-encoder")
    from ..finetune.adapter import load_merged
    from ..finetune.early import load_early

    base = transformer_folder(origin.folder, "bi-encoder")
    with quiet():
        model = load_merged(base, origin.adapter) if layer is None else load_early(base, origin.adapter, layer)
        # An adapter brings the one-label head, whose logit is the score; the base's configuration does not speak of it.
        model.config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
        model.save_pretrained(folder)
    for name in _TOKENIZER:
        if (base / name).is_file():
            shutil.copy(base / name, folder / name)
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
