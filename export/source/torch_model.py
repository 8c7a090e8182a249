"""The PyTorch model an export starts from, and is measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from ...engine.errors import ExportError
from ...engine.models.artifact import Kind
from ..quiet import quiet
from .resolve import Origin

if TYPE_CHECKING:
    from ...engine.text.tokens import PaddedBatch

# Plain matrix products, which fusion and quantisation look for.
ATTENTION = "eager"


def load(origin: Origin, kind: Kind, early: int | None = None) -> Any:
    """The model in FP32 for inference, its adapter merged, or the adapter's exit after layer `early`.

    Raises ExportError when weights miss or do not fit.
    """
    door = AutoModel if kind == "bi-encoder" else AutoModelForSequenceClassification
    if origin.adapter is not None:
        if kind != "cross-encoder":
            raise ExportError("an adapter turns a base model into a cross-encoder; export it with --as cross-encoder")
        from ..finetune.adapter import load_merged
        from ..finetune.early import load_early

        with quiet():
            if early is None:
                merged = load_merged(origin.folder, origin.adapter)
            else:
                merged = load_early(origin.folder, origin.adapter, early)
            model = door.from_config(merged.config, attn_implementation=ATTENTION, dtype=torch.float32)
            model.load_state_dict(merged.state_dict())
        return model.float().eval()
    try:
        with quiet():
            model, report = door.from_pretrained(
                origin.folder,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                attn_implementation=ATTENTION,
                output_loading_info=True,
            )
    except Exception as error:  # transformers, safetensors and torch raise what they like on damaged weights
        raise ExportError(f"{origin.name} cannot be loaded: {error}") from error
    _refuse_missing(origin, kind, report)
    return model.eval()


def _refuse_missing(origin: Origin, kind: Kind, report: dict[str, Any]) -> None:
    """Weights that transformers would make up at random, a cross-encoder's head above all."""
    missing = [name for name in report["missing_keys"] if kind == "cross-encoder" or "pooler." not in name]
    missing += [str(name) for name in report["mismatched_keys"]]
    if missing:
        raise ExportError(
            f"{origin.name} has no fitting weights for {', '.join(sorted(missing)[:3])}"
            f"{' and more' if len(missing) > 3 else ''}: it is not a complete {kind}"
        )


def forward(model: Any, batch: PaddedBatch, *, segments: bool) -> npt.NDArray[np.float32]:
    """float32: hidden states [n, width, d], or logits [n, 1], of `batch`."""
    feeds = {"input_ids": torch.from_numpy(batch.ids), "attention_mask": torch.from_numpy(batch.mask)}
    if segments:
        feeds["token_type_ids"] = torch.from_numpy(batch.segments)
    with torch.inference_mode():
        output = model(**feeds)
    tensor = output.logits if hasattr(output, "logits") else output.last_hidden_state
    array: npt.NDArray[np.float32] = tensor.numpy()
    return array
