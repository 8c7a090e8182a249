"""What is let in: folders with safetensors, bundled names, the Hub; what is not: anything that could run code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tandem.engine.errors import ExportError
from tandem.export.source.resolve import resolve
from tandem.export.source.torch_model import load

from ...tiny import tiny_model


def found(source, kind="bi-encoder", **options):
    return resolve(str(source), kind, **({"revision": None, "adapter": None} | options))


def test_a_folder_is_itself(tmp_path):
    folder = tiny_model(tmp_path / "model")
    origin = found(folder, revision="v1")
    assert (origin.name, origin.folder, origin.revision, origin.adapter) == ("model", folder, "v1", None)


def test_the_bundled_bi_encoder_needs_no_download():
    origin = found("minilm-l6")
    assert origin.name == "minilm-l6"
    assert (origin.folder / "model.safetensors").is_file()


def test_a_bundled_model_is_of_its_kind():
    with pytest.raises(ExportError, match="minilm-l6 is a bi-encoder"):
        found("minilm-l6", "cross-encoder")
    origin = found("minilm-l6", "cross-encoder", adapter=Path("mine"))  # what `tandem finetune` says to do next
    assert origin.adapter == Path("mine")
    with pytest.raises(ExportError, match="export it with --as cross-encoder"):
        load(found("minilm-l6", adapter=Path("mine")), "bi-encoder")


def test_pickled_weights_are_refused(tmp_path):
    folder = tiny_model(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ExportError, match="pickled weights can run code"):
        found(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_with_its_own_code_is_refused(tmp_path, name):
    path = tiny_model(tmp_path) / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoModel": "modeling.Model"}}))
    with pytest.raises(ExportError, match=f"auto_map in {name}"):
        found(tmp_path)


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"no config\.json"):
        found(tmp_path)


def test_the_hub_without_a_network_is_a_clear_error(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ExportError, match="could not be fetched from the Hugging Face Hub"):
        found("nobody/no-such-model")


@pytest.mark.parametrize(
    "name", ["a/b/c", "https://example.org/model", "", "no spaces please", str(Path("/") / "absent")]
)
def test_what_is_no_name_of_a_model_is_refused(name):
    with pytest.raises(ExportError, match="neither a folder nor a Hugging Face id"):
        found(name)
