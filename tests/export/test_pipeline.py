"""The whole export: what refuses, what it leaves behind, and that it replaces an artifact whole."""

from __future__ import annotations

import errno
import json
from functools import partial

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tandem.engine.errors import ArtifactError, ExportError, StorageError
from tandem.engine.models.artifact import MANIFEST, Artifact
from tandem.export import export_model, verify_artifact
from tandem.export.graph import precision, write
from tandem.export.graph.graph_file import save_graph
from tandem.export.parity import activations
from tandem.export.parity.samples import docstrings

from ..tiny import tiny_model

TEXTS = docstrings()[:30]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("source") / "model", "bert", "cross-encoder")


def export(source, out, **options):
    options = {"precisions": ("fp32",), "texts": TEXTS} | options
    return export_model(str(source), "cross-encoder", out, **options)


def corrupt(graph: onnx.ModelProto, scale: float) -> onnx.ModelProto:
    """Scale one weight matrix of the first feed-forward layer, as a bad conversion would."""
    weight = next(tensor for tensor in graph.graph.initializer if list(tensor.dims) == [32, 64])
    weight.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(weight) * scale).astype(np.float32), weight.name))
    return graph


def corrupted(monkeypatch, scale: float, only: str | None = None) -> None:
    """Let every graph, or that of one target `only`, come out with a wrong weight."""
    lower = write.lower

    def wrong(graph, target):
        lower(graph, target)
        if only in (None, target):
            corrupt(graph, scale)

    monkeypatch.setattr(write, "lower", wrong)


@pytest.mark.parametrize("scale", [1.01, -1.0])
def test_a_wrong_weight_fails_parity_and_nothing_is_written(source, tmp_path, monkeypatch, scale):
    corrupted(monkeypatch, scale)
    with pytest.raises(ExportError, match=r"no variant is the model it came from: fp32 \(max error"):
        export(source, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_gives_nan_fails_parity(source, tmp_path, monkeypatch):
    corrupted(monkeypatch, np.nan)
    with pytest.raises(ExportError, match="scores are not finite"):
        export(source, tmp_path / "out")


def test_a_variant_that_fails_is_left_out_with_its_reason(source, tmp_path, monkeypatch):
    """Activations that half precision cannot hold leave a model that a CPU serves."""
    corrupted(monkeypatch, -1.0, only="gpu")
    lines: list[str] = []
    artifact = export(source, tmp_path / "out", precisions=("fp32", "fp16", "int8"), progress=lines.append)
    assert list(artifact.manifest.variants) == ["fp32", "int8"]
    assert not any("fp16" in name for name in artifact.manifest.files)
    (said,) = [line for line in lines if line.startswith("fp16")]
    assert "left out" in said
    assert "max error" in said
    assert "a GPU has none" in said


def test_an_artifact_is_replaced_whole(source, tmp_path):
    out = tmp_path / "out"
    export(source, out, precisions=("fp32", "int8"))
    again = export(source, out)
    assert list(again.manifest.variants) == ["fp32"]
    assert not (out / "onnx/model_quantized.onnx").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_artifact_can_be_read_by_a_server_of_another_user(source, tmp_path):
    out = tmp_path / "out"
    export(source, out)
    modes = {path.relative_to(out).as_posix(): path.stat().st_mode & 0o777 for path in out.rglob("*")}
    assert modes["model.safetensors"] == 0o644  # safetensors writes it for its owner alone
    assert set(modes.values()) == {0o644, 0o755}


def test_an_interrupt_leaves_the_old_artifact_and_no_litter(source, tmp_path):
    out = tmp_path / "out"
    before = export(source, out).fingerprint

    def interrupt(line: str) -> None:
        if line.startswith("fp32"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(source, out, progress=interrupt)
    assert Artifact.open(out).fingerprint == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_a_storage_error_and_leaves_no_litter(source, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(write, "save_graph", full)
    with pytest.raises(StorageError, match="No space left on device"):
        export(source, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_export_says_what_it_does_and_nothing_else(source, tmp_path, capfd):
    lines: list[str] = []
    export(source, tmp_path / "out", progress=lines.append)
    assert lines[0] == "loading model"
    assert lines[-1].startswith("fp32: max error")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_the_same_export_twice_gives_the_same_files(source, tmp_path):
    first, second = (
        export(source, tmp_path / "a", precisions=("int8",)),
        export(source, tmp_path / "b", precisions=("int8",)),
    )
    assert first.manifest.files == second.manifest.files


def test_occupied_places_are_left_alone(source, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear diary")
    with pytest.raises(ExportError, match="holds files that are no artifact"):
        export(source, tmp_path / "notes")
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="is a file"):
        export(source, tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path / "notes")
    with pytest.raises(ExportError, match="is a link"):
        export(source, tmp_path / "link")
    assert (tmp_path / "notes" / "diary.txt").read_text() == "dear diary"


def test_a_graph_too_large_for_one_file_keeps_its_weights_beside_it(source, tmp_path, monkeypatch):
    asked = {"precisions": ("fp32", "fp16", "int8")}
    one_file = export(source, tmp_path / "one", **asked)
    for module in (write, precision, activations):
        monkeypatch.setattr(module, "save_graph", partial(save_graph, largest=10_000))
    artifact = export(source, tmp_path / "out", **asked)
    assert artifact.manifest.variants == one_file.manifest.variants
    data = artifact.path / "onnx/model.onnx.data"
    assert "onnx/model.onnx.data" in artifact.manifest.files
    assert data.stat().st_size > artifact.graph("fp32").stat().st_size
    verify_artifact(artifact.path)
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.onnx\.data is damaged"):
        Artifact.open(artifact.path).graph("fp32")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precisions": ("fp8",)}, "not fp8"),
        ({"precisions": ()}, "not none"),
        ({"texts": ["one"]}, "at least two different texts"),
        ({"queries": []}, "at least one query"),
    ],
)
def test_settings_that_make_no_sense_are_refused(source, tmp_path, options, message):
    with pytest.raises(ExportError, match=message):
        export(source, tmp_path / "out", **options)


def test_an_unknown_kind_is_refused(source, tmp_path):
    with pytest.raises(ExportError, match="bi-encoder or cross-encoder"):
        export_model(str(source), "reranker", tmp_path / "out")


def test_a_head_that_would_be_random_is_refused(tmp_path):
    base = tiny_model(tmp_path / "base", "bert", "bi-encoder")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}))
    with pytest.raises(ExportError, match="has no head that gives scores"):
        export(base, tmp_path / "out")


def test_the_fixtures_share_their_tokenizer(tiny_bi_encoder, tiny_cross_encoder):
    bi, cross = Artifact.open(tiny_bi_encoder), Artifact.open(tiny_cross_encoder)
    assert bi.tokenizer().fingerprint == cross.tokenizer().fingerprint
    assert (tiny_bi_encoder / MANIFEST).is_file()
