"""What the tests of training share: a base, data, and one training of four steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from ...tiny import tiny_model
from .worlds import SETTINGS, write_data


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"), layers=3)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "words")


@pytest.fixture(scope="session")
def trained(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tandem.export.finetune.train import finetune

    out = tmp_path_factory.mktemp("trained") / "adapter"
    finetune(str(base), [data], out, encoder=str(base), settings=SETTINGS, tests=[data])
    return out
