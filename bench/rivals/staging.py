"""Our artifacts as the folders other libraries expect.

A copy, since some rivals write into a model's folder, and with the artifact's own limit in `tokenizer_config.json`:
fastembed and FlashRank take the smallest length they find there, and would otherwise read less text than Tandem does.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ...engine.models.artifact import EARLY, MANIFEST, Artifact, Precision

CONFIG = "tokenizer_config.json"


def stage(artifact: Artifact, precision: Precision, folder: Path) -> Path:
    """Copy what a rival may read of `artifact` into the new `folder`: one graph, weights, tokenizer, configuration."""
    graph = artifact.graph(precision)
    artifact.verify()
    for name in artifact.manifest.files:
        if name.startswith(f"{EARLY}/"):  # another model, whose graphs infinity finds and takes for this one's
            continue
        if name.startswith("onnx/") and not name.startswith(str(graph.relative_to(artifact.path))):
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(artifact.path / name, folder / name)
    (folder / MANIFEST).unlink(missing_ok=True)
    path = folder / CONFIG
    config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    limit = artifact.manifest.max_length
    path.write_text(json.dumps({**config, "model_max_length": limit, "max_length": limit}), encoding="utf-8")
    return folder
