"""The bundled models, exported: a minute on two cores, so only where nothing smaller will do; and long passages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tandem.engine import Engine
from tandem.engine.models.artifact import Kind

from .long import index_long


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
    from tandem.export.parity.samples import docstrings

    return export_model(name, kind, folder / "artifact", precisions=("fp32",), texts=docstrings()[:20]).path


@pytest.fixture(scope="session")
def long_engine(
    tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, exiting_cross_encoder: Path
) -> Iterator[Engine]:
    """Over passages that are read again in windows (see `long`), with an early exit."""
    folder = tmp_path_factory.mktemp("long")
    index_long(folder, tiny_bi_encoder, exiting_cross_encoder)
    with Engine.open(folder / "c", device="cpu", warm_up=False, reranker_precision="fp32") as opened:
        yield opened
