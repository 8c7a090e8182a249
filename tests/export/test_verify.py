"""Verification finds damage in files, and graphs that do not agree."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tandem.engine.errors import ArtifactError
from tandem.engine.models.artifact import MANIFEST
from tandem.engine.platform.durable_io import sha256
from tandem.export import verify_artifact


@pytest.fixture
def copy(tiny_cross_encoder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_cross_encoder, tmp_path / "artifact"))


def record(folder: Path, name: str) -> None:
    """Make the manifest vouch for what lies there now."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = {"sha256": sha256(folder / name), "size": (folder / name).stat().st_size}
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize("fixture", ["tiny_bi_encoder", "tiny_cross_encoder"])
def test_a_good_artifact_passes(request, fixture):
    lines: list[str] = []
    report = verify_artifact(request.getfixturevalue(fixture), progress=lines.append)
    assert report.reference == "fp32"
    assert report.files == len(report.artifact.manifest.files)
    assert report.agreement["int8"].kendall_tau > 0.85
    assert len(lines) == 2


def test_a_flipped_byte_is_found(copy):
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    with pytest.raises(ArtifactError, match="is damaged"):
        verify_artifact(copy)


def test_a_graph_that_ranks_otherwise_is_found_though_its_sha256_is_right(copy):
    name = "onnx/model_quantized.onnx"
    graph = onnx.load(copy / name)
    weight = max(
        (t for t in graph.graph.initializer if t.data_type == onnx.TensorProto.INT8), key=lambda t: len(t.raw_data)
    )
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    onnx.save(graph, copy / name)
    record(copy, name)
    with pytest.raises(ArtifactError, match="int8 graph is not to be trusted on this machine"):
        verify_artifact(copy)


def test_a_graph_that_gives_nan_is_found(copy):
    name = "onnx/model.onnx"
    graph = onnx.load(copy / name)
    weight = next(t for t in graph.graph.initializer if list(t.dims) == [32, 64])
    weight.CopyFrom(numpy_helper.from_array(np.full((32, 64), np.nan, dtype=np.float32), weight.name))
    onnx.save(graph, copy / name)
    record(copy, name)
    with pytest.raises(ArtifactError, match="scores are not finite"):
        verify_artifact(copy)


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"not a graph", "cannot be read as an ONNX graph"), (b"\xa2\x06\x01x", "ONNX Runtime cannot load")],
)
def test_a_graph_that_is_no_graph_is_found(copy, data, said):
    (copy / "onnx/model.onnx").write_bytes(data)
    record(copy, "onnx/model.onnx")
    with pytest.raises(ArtifactError, match=said):
        verify_artifact(copy)


def test_verification_needs_neither_pytorch_nor_transformers(tiny_bi_encoder):
    import subprocess
    import sys

    script = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['transformers'] = sys.modules['onnx'] = None\n"
        "from tandem.export import verify_artifact\n"
        f"assert verify_artifact({str(tiny_bi_encoder)!r}).agreement\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
