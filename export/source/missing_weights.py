"""Weights that transformers would make up at random, a cross-encoder's head above all, are found before they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoModelForTextEncoding

from ...engine.errors import ExportError
from ...engine.models.artifact import Kind
from .files import read_json
from .layout import counted_modules, sentence_config
from .resolve import Origin


def refuse_missing(origin: Origin, kind: Kind, folder: Path, config: Any) -> None:
    """Raises ExportError when the files lack weights of the model in `folder`, or have some of another shape."""
    missing = missing_weights(origin, kind, folder, config)
    if missing:
        raise ExportError(
            f"{origin.name} has no fitting weights for {', '.join(sorted(missing)[:3])}"
            f"{' and more' if len(missing) > 3 else ''}: it is not a complete {kind}"
        )


def missing_weights(origin: Origin, kind: Kind, folder: Path, config: Any) -> list[str]:
    """Names of the weights that the files do not have, or have in another shape. No weight is read for it."""
    door = _door(origin, kind, folder, config)
    _, report = door.from_pretrained(
        folder, device_map="meta", output_loading_info=True, ignore_mismatched_sizes=True,
        trust_remote_code=origin.trusted, local_files_only=True,
    )  # fmt: skip
    head = door is AutoModelForSequenceClassification
    missing = [str(name) for name in report["missing_keys"] if head or "pooler." not in str(name)]
    return missing + [str(name[0] if isinstance(name, tuple) else name) for name in report["mismatched_keys"]]


def _door(origin: Origin, kind: Kind, folder: Path, config: Any) -> Any:
    """The class of transformers that sentence-transformers loads the weights with."""
    built = str((getattr(config, "architectures", None) or [""])[0])
    task = "feature-extraction"
    if counted_modules(origin.folder, kind) is not None:
        said = read_json(folder, sentence_config(folder) or "") or {}
        task = str(said.get("transformer_task", task))
    elif kind == "cross-encoder":
        task = "text-generation" if built.endswith("ForCausalLM") else "sequence-classification"
    doors = {
        "feature-extraction": AutoModelForTextEncoding if config.model_type == "t5" else AutoModel,
        "sequence-classification": AutoModelForSequenceClassification,
        "text-generation": AutoModelForCausalLM,
    }
    if task not in doors:
        raise ExportError(
            f"{origin.name} is loaded for the task {task} (transformer_task in {sentence_config(folder)}); supported "
            f"are {', '.join(doors)}"
        )
    return doors[task]
