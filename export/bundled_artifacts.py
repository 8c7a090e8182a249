"""The bundled models as artifacts: exported once, and found again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..engine.models.artifact import MANIFEST, Artifact
from .bundled import BUNDLED, adapter_mark
from .pipeline import export_model


def exported(name: str, path: Path, tell: Callable[[str], None] = lambda message: None) -> Path:
    """`path`, with the artifact of the bundled model `name`: exported there unless this very model already was."""
    model = BUNDLED[name]
    if (path / MANIFEST).exists() and Artifact.open(path).manifest.source.adapter == adapter_mark(model.adapter):
        tell(f"{name}: already exported")
        return path
    tell(f"{name}: exporting to ONNX and proving it equal to PyTorch (about a minute)")
    export_model(name, model.kind, path, progress=tell)
    return path
