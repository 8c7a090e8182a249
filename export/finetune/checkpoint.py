"""A training's state on disk: written whole or not at all, so that a kill at any moment costs minutes only."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ...engine.errors import ExportError
from ...engine.platform.durable_io import replace_durably
from .averaging import Average
from .model import Reranker

LATEST = "checkpoint.safetensors"
BEST = "best.safetensors"


@dataclass(slots=True)
class TrainingProgress:
    """How far a training is; `settings` is a digest of all that decides its course."""

    settings: str
    step: int = 0
    seconds: float = 0.0
    best: float = -1.0
    best_step: int = 0
    worse: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(
    folder: Path, model: Reranker, optimizer: torch.optim.Optimizer, average: Average, progress: TrainingProgress
) -> None:
    """Replace the latest checkpoint by the present state."""
    tensors = {f"model.{name}": tensor.detach() for name, tensor in model.trained().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.tensors.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    _write(folder / LATEST, tensors, progress)


def save_best(folder: Path, model: Reranker, progress: TrainingProgress) -> None:
    """Keep the present weights as the best so far."""
    _write(folder / BEST, {f"model.{name}": tensor.detach() for name, tensor in model.trained().items()}, progress)


def load_checkpoint(
    folder: Path,
    model: Reranker,
    optimizer: torch.optim.Optimizer | None,
    settings: str,
    name: str = LATEST,
    average: Average | None = None,
) -> TrainingProgress | None:
    """Put the checkpoint into `model`, `optimizer` and `average` and return its progress; None when there is none.

    Raises ExportError when it is unreadable or of a training with other settings.
    """
    path = folder / name
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            progress = TrainingProgress(**json.loads(file.metadata()["progress"]))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"the checkpoint {path} is unreadable ({error}); remove {folder} to start again") from error
    if progress.settings != settings:
        raise ExportError(
            f"{path} is of a training with other settings or data; give another --out, or --no-resume to start again"
        )
    with torch.no_grad():
        for key, parameter in model.trained().items():
            parameter.copy_(tensors[f"model.{key}"])
    if average is not None:
        means = {key: tensor for key, tensor in tensors.items() if key.startswith("average.")}
        average.tensors = {key.removeprefix("average."): tensor for key, tensor in means.items()}
    if optimizer is not None:
        _restore(optimizer, tensors)
    return progress


def _restore(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = tensor
    whole = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})


def _write(path: Path, tensors: dict[str, torch.Tensor], progress: TrainingProgress) -> None:
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    record = {name: getattr(progress, name) for name in TrainingProgress.__slots__}
    replace_durably(path, save(contiguous, metadata={"progress": json.dumps(record)}))
