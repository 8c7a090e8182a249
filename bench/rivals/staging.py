"""Our artifacts as the folders other libraries expect: weights, tokenizer, and a graph with a mask and hidden states.

A copy, since some rivals write into a model's folder, and with the artifact's own limit in `tokenizer_config.json`:
fastembed and FlashRank take the smallest length they find there, and would otherwise read less text than Tandem does.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ...engine.models.artifact import EARLY, MANIFEST, VARIANT_FILES, Artifact, Precision
from ..plain_graphs import plain_graph

CONFIG = "tokenizer_config.json"


def stage(artifact: Artifact, precision: Precision | None, folder: Path) -> Path:
    """Copy what a rival may read of `artifact` into the new `folder`: weights, tokenizer, configuration, and a graph of
    a `precision` as PyTorch's exporter gives it, None for none: ours ends at a vector or a score."""
    artifact.verify()
    for name in artifact.manifest.files:
        if name.startswith((f"{EARLY}/", "onnx/")):  # infinity finds any graph, and takes it for this model's
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(artifact.path / name, folder / name)
    (folder / MANIFEST).unlink(missing_ok=True)
    path = folder / CONFIG
    config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    limit = artifact.manifest.max_length
    path.write_text(json.dumps({**config, "model_max_length": limit, "max_length": limit}), encoding="utf-8")
    if precision is not None:
        plain_graph(artifact, folder, folder / VARIANT_FILES[precision], precision)
    return folder
