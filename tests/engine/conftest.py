"""The bundled models, exported: a minute on two cores, so only where nothing smaller will do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tandem.engine.artifact import Kind


@pytest.fixture(scope="session")
def bundled_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2, FP32 only."""
    return _bundled(tmp_path_factory.mktemp("bundled-bi"), "minilm-l6", "bi-encoder")


@pytest.fixture(scope="session")
def bundled_reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reranker that Tandem brings along, FP32 only."""
    return _bundled(tmp_path_factory.mktemp("bundled-cross"), "minilm-l6-reranker", "cross-encoder")


def _bundled(folder: Path, name: str, kind: Kind) -> Path:
    from tandem.export import export_model
    from tandem.export.samples import docstrings

    return export_model(name, kind, folder / "artifact", precisions=("fp32",), texts=docstrings()[:20]).path
