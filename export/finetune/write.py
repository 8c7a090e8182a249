"""What was trained as files: a PEFT LoRA folder in half precision or a whole model, the exit heads, record and card."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from ...engine.platform.durable_io import replace_durably, sha256
from ..quiet import quiet
from ..source.adapter import CONFIG, WEIGHTS
from ..source.exits import EXITS
from ..source.record import RECORD, AdapterRecord
from .reranker import Reranker


def write_weights(out: Path, reranker: Reranker) -> dict[str, str]:
    """Write an adapter's two files or a whole model, and exits.safetensors; returns the sha256 of each by name.

    An adapter is float16, since half of it moved a logit by less than 0.01 while the tree holds the file for good.
    """
    out.mkdir(parents=True, exist_ok=True)
    # An earlier training's record would call these weights damaged.
    for name in (RECORD, EXITS):
        (out / name).unlink(missing_ok=True)
    (peft,) = reranker.peft
    with quiet():
        if peft is None:
            reranker.inner.config.output_hidden_states = False
            reranker.inner.save_pretrained(str(out), create_model_card=False)
        else:
            with tempfile.TemporaryDirectory() as scratch:
                peft.save_pretrained(scratch, save_embedding_layers=False)
                replace_durably(out / CONFIG, Path(scratch, CONFIG).read_bytes())
                replace_durably(out / WEIGHTS, _half(load_file(Path(scratch, WEIGHTS))))
    if reranker.heads is not None:
        replace_durably(out / EXITS, _half(reranker.heads.tensors()))
    return _digests(out)


def copy_weights(source: Path, out: Path) -> dict[str, str]:
    """The reranker in the folder `source` without its record and card; returns the sha256 of each file by name."""
    out.mkdir(parents=True, exist_ok=True)
    (out / RECORD).unlink(missing_ok=True)
    for name in _digests(source):
        replace_durably(out / name, (source / name).read_bytes())
    return _digests(out)


def write_record(out: Path, record: AdapterRecord, card: str) -> None:
    """Write adapter.json and README.md."""
    replace_durably(out / RECORD, (record.model_dump_json(indent=2) + "\n").encode())
    replace_durably(out / "README.md", card.encode())


def _digests(folder: Path) -> dict[str, str]:
    kept = {RECORD, "README.md"}
    return {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name not in kept}


def _half(tensors: Mapping[str, Tensor]) -> bytes:
    halves = {name: tensor.to(torch.float16).contiguous() for name, tensor in tensors.items()}
    return bytes(save(halves, metadata={"format": "pt"}))
