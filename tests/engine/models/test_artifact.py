"""What stands between a folder and an engine: each way to damage an artifact is refused, and says how."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tandem.engine.errors import ArtifactError
from tandem.engine.models.artifact import MANIFEST, Artifact


@pytest.fixture
def copy(tiny_bi_encoder: Path, tmp_path: Path) -> Path:
    """A copy of an exported artifact, to be damaged."""
    return Path(shutil.copytree(tiny_bi_encoder, tmp_path / "artifact"))


def edit(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | changes))


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_an_exported_artifact_opens_and_verifies(copy):
    artifact = Artifact.open(copy, kind="bi-encoder")
    artifact.verify()
    assert artifact.graph("int8") == copy / "onnx/model_quantized.onnx"
    assert artifact.tokenizer().max_length == artifact.manifest.max_length
    assert artifact.fingerprint != ""


def test_the_manifest_names_every_file(copy):
    files = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert set(Artifact.open(copy).manifest.files) == files - {MANIFEST}


@pytest.mark.parametrize("name", ["onnx/model.onnx", "model.safetensors", "tokenizer.json", "config.json"])
def test_a_flipped_byte_is_found(copy, name):
    flip(copy / name, (copy / name).stat().st_size // 2)
    with pytest.raises(ArtifactError, match=f"{name} is damaged"):
        Artifact.open(copy).verify()


def test_a_damaged_graph_or_tokenizer_is_never_handed_out(copy):
    flip(copy / "onnx/model.onnx", 100)
    flip(copy / "tokenizer.json", 100)
    artifact = Artifact.open(copy)
    with pytest.raises(ArtifactError, match="damaged"):
        artifact.graph("fp32")
    with pytest.raises(ArtifactError, match="damaged"):
        artifact.tokenizer()


def test_a_missing_file_is_found(copy):
    (copy / "onnx/model.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"model\.onnx is missing"):
        Artifact.open(copy)


def test_a_shortened_file_is_found_without_hashing(copy):
    data = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(data[:-1])
    with pytest.raises(ArtifactError, match="bytes, its manifest says"):
        Artifact.open(copy)


def test_a_link_is_refused_even_to_the_right_file(copy, tiny_bi_encoder):
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors").symlink_to(tiny_bi_encoder / "model.safetensors")
    with pytest.raises(ArtifactError, match="is a link"):
        Artifact.open(copy)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "onnx/extra.pkl", "modeling.py", "op.so"])
def test_a_file_that_can_run_code_is_refused(copy, name):
    (copy / name).write_bytes(b"")
    with pytest.raises(ArtifactError, match="can run code"):
        Artifact.open(copy)


def test_another_kind_is_refused(copy):
    with pytest.raises(ArtifactError, match="holds a bi-encoder, but a cross-encoder is needed"):
        Artifact.open(copy, kind="cross-encoder")


def test_another_models_manifest_is_found(copy, tiny_cross_encoder):
    shutil.copy(tiny_cross_encoder / MANIFEST, copy / MANIFEST)
    with pytest.raises(ArtifactError, match=r"bytes, its manifest says|is damaged"):
        Artifact.open(copy).verify()


def test_a_precision_that_was_not_exported_is_named(copy):
    with pytest.raises(ArtifactError, match="has no fp16 variant, only fp32, int8"):
        Artifact.open(copy).graph("fp16")


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"format": 1}, "format"),
        ({"surprise": 1}, "surprise"),
        ({"max_length": 0}, "max_length"),
        ({"max_length": 10**9}, "max_length"),
        ({"max_length": 10**6}, r"says that it reads 1000000 tokens and has \d+ positions; export the model again"),
        ({"kind": 3}, "kind"),
    ],
)
def test_a_manifest_of_another_format_is_refused(copy, changes, where):
    edit(copy, **changes)
    with pytest.raises(ArtifactError, match=where):
        Artifact.open(copy)


def test_a_manifest_that_is_not_json_is_refused(copy):
    (copy / MANIFEST).write_bytes(b"\xff{")
    with pytest.raises(ArtifactError, match="is not a manifest this version reads"):
        Artifact.open(copy)


def test_a_manifest_cannot_name_files_outside_the_artifact(copy):
    outside = copy.parent / "outside"
    outside.write_bytes(b"x")
    files = json.loads((copy / MANIFEST).read_text())["files"]
    edit(copy, files=files | {"../outside": {"sha256": "0" * 64, "size": 1}})
    with pytest.raises(ArtifactError, match="outside the artifact"):
        Artifact.open(copy)


def rewrite(folder: Path, name: str, data: bytes) -> None:
    """Change a file, and what the manifest says of it, as somebody might by hand."""
    (folder / name).write_bytes(data)
    files = json.loads((folder / MANIFEST).read_text())["files"]
    edit(folder, files=files | {name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}})


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_with_code_of_its_own_is_refused(copy, name):
    config = json.loads((copy / name).read_text())
    rewrite(copy, name, json.dumps(config | {"auto_map": {"AutoModel": "modeling.Model"}}).encode())
    with pytest.raises(ArtifactError, match=rf"{name} names Python code of the model's own \(auto_map\)"):
        Artifact.open(copy)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_configuration_that_is_none_is_refused(copy, data):
    rewrite(copy, "config.json", data)
    with pytest.raises(ArtifactError, match=r"config\.json (cannot be read as JSON|holds no JSON object)"):
        Artifact.open(copy)


def test_a_folder_without_a_manifest_says_what_to_do(tmp_path):
    with pytest.raises(ArtifactError, match="tandem export"):
        Artifact.open(tmp_path)
    with pytest.raises(ArtifactError, match="is not a folder"):
        Artifact.open(tmp_path / "absent")
