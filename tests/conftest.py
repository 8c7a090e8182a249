"""Fixtures that every test folder may use.

PyTorch is imported by the fixtures that need it, so that a test without them starts at once.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tandem.engine.artifact import Kind

# No limit on an example's time: a busy machine is not a failing test.
settings.register_profile("tandem", deadline=None)
settings.load_profile("tandem")


@pytest.fixture(scope="session")
def tiny_bi_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported bi-encoder: BERT, 2 layers, hidden 32, random weights, FP32 and INT8. Read-only by agreement."""
    return _exported(tmp_path_factory.mktemp("tiny-bi-encoder"), "bi-encoder")


@pytest.fixture(scope="session")
def tiny_cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported cross-encoder with `tiny_bi_encoder`'s tokenizer, FP32 and INT8. Read-only by agreement."""
    return _exported(tmp_path_factory.mktemp("tiny-cross-encoder"), "cross-encoder")


def _exported(folder: Path, kind: Kind) -> Path:
    from tandem.export import export_model
    from tandem.export.samples import docstrings

    from .tiny import tiny_model

    source = tiny_model(folder / "source", "bert", kind)
    texts = docstrings()[:60]  # enough to prove so small a model, in a second
    return export_model(str(source), kind, folder / "artifact", precisions=("fp32", "int8"), texts=texts).path
