"""A training that goes on from a trained adapter: your own questions after the bundled reranker's."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ...engine.errors import ExportError
from ...engine.platform.durable_io import sha256
from ..bundled import BUNDLED
from .adapter import WEIGHTS, check_base, load_base, read_weights
from .model import Reranker
from .record import AdapterRecord, read_record
from .scorer import load_exits
from .settings import FinetuneSettings

log = logging.getLogger(__name__)
# Settings that decide which documents are held back.
DRAWN = {"seed", "passages", "held_out", "pseudo", "weights"}


def find_start(start: str | Path, base: Path) -> tuple[Path, AdapterRecord]:
    """The folder and record of the adapter `start`: a bundled name (`minilm-l6-reranker`) or a folder.

    Raises ExportError when it is none that `tandem finetune` wrote, is damaged or was trained on another base.
    """
    bundled = BUNDLED.get(str(start))
    folder = Path(start) if bundled is None or bundled.adapter is None else bundled.adapter
    read_weights(folder)
    record = read_record(folder)
    if record is None or "settings" not in record.trained:
        raise ExportError(
            f"{folder} has no adapter.json: only adapters that `tandem finetune` wrote can be gone on from"
        )
    check_base(base, load_base(base)[0], record.base, folder)
    return folder, record


def tell_of_leaks(record: AdapterRecord, names: list[str], settings: FinetuneSettings) -> None:
    """Warn where validation may ask about documents that the start was trained on.

    `names` are the sources in order. The draw of what is held back follows them, the seed and the sizes.
    """
    before, now = record.trained["settings"], settings.model_dump(mode="json", include=DRAWN)
    if list(record.trained["data"]) == names and all(before.get(name) == value for name, value in now.items()):
        return
    if shared := [name for name in names if name in record.trained["data"]]:
        log.warning(
            "validation on %s flatters: the start was trained on some of its documents; give the same data, seed and "
            "sizes to hold back the same ones",
            ", ".join(shared),
        )


def fingerprint(folder: Path) -> str:
    """sha256 of the adapter's weights: a training from other weights is another training."""
    return sha256(folder / WEIGHTS)


def take_weights(model: Reranker, folder: Path, recall_weight: float) -> None:
    """Give `model` the low-rank weights, head and exit heads of the adapter in `folder`, whose exits it must have.

    recall_weight: the adapter's, for the fused half of the loss; 0 leaves the model its own

    Raises ExportError when a tensor is missing or of another shape (another rank, say).
    """
    tensors = read_weights(folder)
    with torch.no_grad():
        if recall_weight > 0:
            model.recall_weight_log.fill_(math.log(recall_weight))
        for name, low_rank in model.low_rank.items():
            _copy(low_rank.a, tensors, f"base_model.model.bert.{name}.lora_A.weight", folder)
            _copy(low_rank.b, tensors, f"base_model.model.bert.{name}.lora_B.weight", folder)
        _fill(model.head.dense, tensors, "base_model.model.bert.pooler.dense", folder)
        _fill(model.head.out, tensors, "base_model.model.classifier", folder)
        for layer, head in load_exits(folder, model.head.dense.in_features).items():
            model.exit_heads[layer].load_state_dict(head.state_dict())


def mix_weights(model: Reranker, folder: Path, share: float) -> None:
    """Give `model` the mean of its own weights, with `share` in it, and those of the adapter in `folder`.

    Two trainings that begin at one point end in one basin, and their mean is better than either, most of all where
    neither was trained (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). Raises ExportError as
    `take_weights` does.
    """
    own = {name: tensor.detach().clone() for name, tensor in model.trained().items()}
    take_weights(model, folder, 0.0)
    with torch.no_grad():
        for name, tensor in model.trained().items():
            tensor.lerp_(own[name], share)


def _fill(linear: nn.Linear, tensors: Mapping[str, Tensor], name: str, folder: Path) -> None:
    _copy(linear.weight, tensors, f"{name}.weight", folder)
    _copy(linear.bias, tensors, f"{name}.bias", folder)


def _copy(parameter: Tensor, tensors: Mapping[str, Tensor], name: str, folder: Path) -> None:
    found = tensors.get(name)
    if found is None or found.shape != parameter.shape:
        have = "absent" if found is None else f"{tuple(found.shape)}"
        raise ExportError(f"{folder} is no start for this training: {name} is {have}, not {tuple(parameter.shape)}")
    parameter.copy_(found)
