"""The trained weights as files: a PEFT LoRA folder in half precision, and the exit heads beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors.torch import save
from torch import Tensor

from ...engine.platform.durable_io import replace_durably, sha256
from .adapter import CONFIG, EXITS, WEIGHTS
from .model import SCALE, TARGETS, Reranker
from .record import RECORD, AdapterRecord

PATTERN = rf".*encoder\.layer\.\d+\.({'|'.join(target.replace('.', chr(92) + '.') for target in TARGETS)})"


def write_weights(out: Path, model: Reranker, base: str) -> dict[str, str]:
    """Write adapter_config.json, adapter_model.safetensors and exits.safetensors; returns the sha256 of each by name.

    float16, since half of it moved a logit by less than 0.01 while the tree holds the file for good.
    """
    out.mkdir(parents=True, exist_ok=True)
    # An earlier training's record would call these weights damaged.
    (out / RECORD).unlink(missing_ok=True)
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=model.rank,
        lora_alpha=round(SCALE * model.rank),
        target_modules=PATTERN,
        modules_to_save=["pooler", "classifier"],
        inference_mode=True,
        base_model_name_or_path=base,
    )
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in config.to_dict().items()}
    replace_durably(out / CONFIG, (json.dumps(plain, indent=2, sort_keys=True, default=str) + "\n").encode())
    replace_durably(out / WEIGHTS, save(_half(_lora_tensors(model)), metadata={"format": "pt"}))
    heads = {name: tensor.detach() for name, tensor in model.exit_heads.state_dict().items()}
    replace_durably(out / EXITS, save(_half(heads), metadata={"format": "pt"}))
    return {name: sha256(out / name) for name in (CONFIG, WEIGHTS, EXITS)}


def copy_weights(source: Path, out: Path) -> dict[str, str]:
    """The adapter in the folder `source` without its record and card; returns the sha256 of each file by name."""
    out.mkdir(parents=True, exist_ok=True)
    (out / RECORD).unlink(missing_ok=True)
    for name in (CONFIG, WEIGHTS, EXITS):
        replace_durably(out / name, (source / name).read_bytes())
    return {name: sha256(out / name) for name in (CONFIG, WEIGHTS, EXITS)}


def write_record(out: Path, record: AdapterRecord, card: str) -> None:
    """Write adapter.json and README.md."""
    replace_durably(out / RECORD, (record.model_dump_json(indent=2) + "\n").encode())
    replace_durably(out / "README.md", card.encode())


def _lora_tensors(model: Reranker) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, low_rank in model.low_rank.items():
        tensors[f"base_model.model.bert.{name}.lora_A.weight"] = low_rank.a
        tensors[f"base_model.model.bert.{name}.lora_B.weight"] = low_rank.b
    for suffix, tensor in model.head.dense.state_dict().items():
        tensors[f"base_model.model.bert.pooler.dense.{suffix}"] = tensor
    for suffix, tensor in model.head.out.state_dict().items():
        tensors[f"base_model.model.classifier.{suffix}"] = tensor
    return tensors


def _half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in tensors.items()}
