"""What it costs that every file of a collection is hashed before it is read: 300 MB, from the system's cache."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tandem.engine.collection.checking import check_files
from tandem.engine.models.artifact import FileRecord
from tandem.engine.platform.durable_io import sha256

FILES, SIZE = 3, 100_000_000


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("version")
    for place in range(FILES):
        (folder / f"{place}.npy").write_bytes(np.random.default_rng(place).bytes(SIZE))
    records = {file.name: FileRecord(size=SIZE, sha256=sha256(file)) for file in folder.iterdir()}
    return folder, SimpleNamespace(files=records)


def test_every_file_is_hashed(benchmark: Any, version: tuple[Path, Any]) -> None:
    benchmark(check_files, *version)
