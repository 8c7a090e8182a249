"""What is let in: folders, bundled names, the Hub; and what is not: anything that could run code unasked."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import BertForSequenceClassification

from tandem.engine.errors import ExportError
from tandem.export.quiet import quiet
from tandem.export.source.merged import drop_code, merged
from tandem.export.source.resolve import resolve

from ...tiny import tiny_model, write_json
from .repositories import edit, saved_cross_encoder
from .taken import assert_equal, take


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
        merged(found("minilm-l6", adapter=Path("mine")), "bi-encoder", None, Path("nowhere"))


@pytest.mark.parametrize(
    "name", ["a/b/c", "https://example.org/model", "", "no spaces please", str(Path("/") / "absent")]
)
def test_what_is_no_name_of_a_model_is_refused(name):
    with pytest.raises(ExportError, match="neither a folder nor a Hugging Face id"):
        found(name)


def test_folders_that_hold_no_model_are_refused(tmp_path):
    with pytest.raises(ExportError, match=r"no config\.json"):
        found(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ExportError, match="is a file; give the folder of a model"):
        found(tmp_path / "model.onnx")
    write_json(tmp_path / "config.json", {"model_type": "gpt2"})
    with pytest.raises(ExportError, match="of the family 'gpt2'; supported are albert, bert, camembert"):
        found(tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "bert"})
    with pytest.raises(ExportError, match=r"has no weights \(\*\.safetensors, or pytorch_model\.bin\)"):
        found(tmp_path)


def test_pickled_weights_are_read(tmp_path):
    folder = tiny_model(tmp_path / "model")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert_equal(take(folder), tmp_path / "scratch")


class Malicious:
    """Makes a file where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    folder = tiny_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    torch.save(weights | {"extra": Malicious(tmp_path / "ran")}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ExportError, match="cannot be loaded"):
        take(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Malicious(tmp_path / "ran")))
    with pytest.raises(ExportError, match="cannot be loaded"):
        take(folder)
    assert not (tmp_path / "ran").exists()


MODELING = """
from pathlib import Path
from transformers import BertConfig, BertModel
Path({trace!r}).touch()
class MineConfig(BertConfig):
    model_type = "mine"
class MineModel(BertModel):
    config_class = MineConfig
"""


def own_code(folder: Path, trace: Path, model_type: str) -> Path:
    """A repository that brings a BERT of its own."""
    tiny_model(folder)
    (folder / "modeling_mine.py").write_text(MODELING.format(trace=str(trace)))
    classes = {"AutoConfig": "modeling_mine.MineConfig", "AutoModel": "modeling_mine.MineModel"}
    edit(folder / "config.json", auto_map=classes, model_type=model_type, architectures=["MineModel"])
    return folder


@pytest.fixture
def code_cache(monkeypatch, tmp_path):
    """Where transformers copies a repository's code to."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))


def test_a_models_own_code_runs_only_when_trusted(tmp_path, code_cache):
    folder, trace = own_code(tmp_path / "model", tmp_path / "ran", "mine"), tmp_path / "ran"
    with pytest.raises(ExportError, match=r"auto_map in config\.json.*export with --trust-remote-code"):
        found(folder)
    assert not trace.exists()
    taken = take(folder, trust=True)
    assert trace.exists()
    assert taken.usage.family.name == "a family of its own"
    assert_equal(taken, tmp_path / "scratch", trust_remote_code=True)


def test_code_for_a_family_that_transformers_has_is_not_needed_and_not_run(tmp_path, code_cache):
    folder = own_code(tmp_path / "model", tmp_path / "ran", "bert")
    assert_equal(take(folder), tmp_path / "scratch")
    assert not (tmp_path / "ran").exists()


def test_a_module_of_own_code_is_refused(tmp_path):
    folder = tiny_model(tmp_path / "model")
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "custom_st.Pooling"
    write_json(folder / "modules.json", modules)
    with pytest.raises(ExportError, match=r"own Python code \(custom_st\.Pooling\), which is not run"):
        take(folder)


def test_an_artifact_never_holds_code(tmp_path):
    (tmp_path / "modeling_mine.py").write_text("")
    for name in ("config.json", "tokenizer_config.json"):
        write_json(tmp_path / name, {"auto_map": {"AutoModel": "modeling_mine.MineModel"}, "kept": 1})
    drop_code(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "tokenizer_config.json"]
    assert all(json.loads(path.read_text()) == {"kept": 1} for path in tmp_path.iterdir())


def test_a_cross_encoder_is_no_bi_encoder_and_the_reverse(tmp_path):
    cross = tiny_model(tmp_path / "cross", kind="cross-encoder")
    with pytest.raises(ExportError, match=r"cross is a cross-encoder .*; export it with --as cross-encoder"):
        take(cross)
    with pytest.raises(ExportError, match="export it with --as cross-encoder"):
        take(saved_cross_encoder(tmp_path / "saved"))
    for layout, said in (("before 5.4", "no head that gives scores"), ("since 5.4", "is a bi-encoder")):
        folder = tiny_model(tmp_path / layout, layout=layout)
        with pytest.raises(ExportError, match=f"{said} .*export it with --as bi-encoder"):
            take(folder, "cross-encoder")


def adapter(folder: Path, base: Path, labels: int) -> Path:
    """A LoRA adapter of PEFT on the BERT in `base`, with a head of `labels`."""
    with quiet():
        model = BertForSequenceClassification.from_pretrained(base, num_labels=labels)
        lora = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query"], modules_to_save=["pooler", "classifier"])
        get_peft_model(model, lora).save_pretrained(folder)
    return folder


def test_an_adapter_of_two_labels_says_so(tmp_path):
    base = tiny_model(tmp_path / "base")
    two = adapter(tmp_path / "two", base, 2)
    with pytest.raises(ExportError, match=r"two has a head of 2 labels, and a reranker has one"):
        merged(found(base, "cross-encoder", adapter=two), "cross-encoder", None, tmp_path / "merged")


def test_a_merged_model_is_read_like_any_other(tmp_path):
    base = tiny_model(tmp_path / "base")
    one = adapter(tmp_path / "one", base, 1)
    origin = merged(found(base, "cross-encoder", adapter=one), "cross-encoder", None, tmp_path / "merged")
    taken = take(origin.folder, "cross-encoder")
    assert taken.usage.activation == "identity"
    assert_equal(taken, tmp_path / "scratch")


def test_an_adapter_alone_or_beside_its_model_says_what_to_do(tmp_path):
    base = tiny_model(tmp_path / "base")
    write_json(tmp_path / "lora" / "adapter_config.json", {"base_model_name_or_path": "somewhere"})
    with pytest.raises(ExportError, match=r"lora is an adapter .*export the model .*with --adapter"):
        found(tmp_path / "lora", "cross-encoder")
    write_json(base / "adapter_config.json", {"base_model_name_or_path": "somewhere"})
    with pytest.raises(ExportError, match=r"an adapter beside its weights \(adapter_config\.json\)"):
        found(base)
