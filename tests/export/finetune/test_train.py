"""The whole way: trained, resumed, in two processes, gone on with, measured anew, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tandem.engine.errors import CorpusError, ExportError, InputError
from tandem.export import export_model
from tandem.export.finetune.settings import FinetuneSettings
from tandem.export.finetune.train import finetune, refit
from tandem.export.finetune.trainer import latest
from tandem.export.parity.samples import docstrings
from tandem.export.source.adapter import WEIGHTS
from tandem.export.source.exits import EXITS
from tandem.export.source.record import AdapterRecord, read_record

from ...tiny import tiny_model
from ..source.repositories import decoder_reranker
from .worlds import SETTINGS, write_data


def told(**changes: object) -> FinetuneSettings:
    return SETTINGS.model_copy(update=changes)


@pytest.fixture
def run(base: Path, data: Path):
    """`finetune` on the shared base and data."""

    def call(out: Path, **wishes: object) -> AdapterRecord:
        sources = wishes.pop("data", [data])
        return finetune(str(wishes.pop("base", base)), sources, out,
                        **{"encoder": str(base), "settings": SETTINGS, **wishes})  # fmt: skip

    return call


def test_training_moves_the_weights_and_is_recorded(trained: Path):
    record = read_record(trained)
    assert record is not None
    assert (record.trained["steps"], record.trained["data"], record.exits) == (4, {"words": 24}, (1, 2))
    assert set(record.quality["test"]["words"]["ndcg@10"]) == {"recall", "evidence", "rerank", "fused"}
    assert [row["eval_mean"] for row in record.quality["history"]]
    weights, heads = load_file(trained / WEIGHTS), load_file(trained / EXITS)
    assert all(float(tensor.abs().max()) > 0 for name, tensor in weights.items() if "lora_B" in name)
    assert not torch.equal(heads["1.classifier.weight"], heads["2.classifier.weight"]), "each exit has learnt"
    card = (trained / "README.md").read_text()
    assert all(digest in card for digest in record.files.values())


def test_a_resumed_training_equals_an_unbroken_one(trained: Path, run, tmp_path: Path):
    shutil.copytree(trained / "work", tmp_path / "work")
    checkpoints = tmp_path / "work" / "training"
    shutil.rmtree(checkpoints / "checkpoint-4")
    (checkpoints / "checkpoint-3").mkdir()  # was being written
    assert latest(checkpoints) == checkpoints / "checkpoint-2"
    (tmp_path / "work" / "outcome.json").unlink()
    run(tmp_path)
    for name in (WEIGHTS, EXITS):
        unbroken, resumed = load_file(trained / name), load_file(tmp_path / name)
        assert unbroken.keys() == resumed.keys()
        for key, tensor in unbroken.items():
            torch.testing.assert_close(resumed[key], tensor, atol=1e-3, rtol=1e-3, msg=key)


def test_two_processes_train_what_one_does(trained: Path, run, tmp_path: Path):
    record = run(tmp_path, settings=told(processes=2))
    assert record.trained["processes"] == 2
    one, two = load_file(trained / WEIGHTS), load_file(tmp_path / WEIGHTS)
    apart = sum(float((one[name].float() - two[name].float()).square().sum()) for name in one if "lora_B" in name)
    moved = sum(float(one[name].float().square().sum()) for name in one if "lora_B" in name)
    assert apart < 0.05 * moved, "B begins at zero, so it is what was learnt"


def test_a_time_is_turned_into_steps_once(run, tmp_path: Path):
    record = run(tmp_path, settings=told(steps=None, minutes=1e-4, epochs=2.0))
    assert record.trained["steps"] == 1
    assert json.loads((tmp_path / "work" / "steps.json").read_text()) == 1
    assert record.trained["data"] == {"words": 48}, "two lists a question"


@pytest.mark.parametrize("family", ["modernbert", "qwen3"])
def test_other_families_are_trained_and_exported(family: str, run, tmp_path: Path):
    folder = tmp_path / "base"
    if family == "qwen3":
        decoder_reranker(folder)
    else:
        tiny_model(folder, "modernbert", layers=3)
    record = run(tmp_path / "out", base=folder)
    assert record.exits == (() if family == "qwen3" else (1, 2))
    artifact = export_model(str(folder), "cross-encoder", tmp_path / "artifact", adapter=tmp_path / "out",
                            precisions=("fp32",), texts=docstrings()[:30])  # fmt: skip
    assert artifact.manifest.early == (None if family == "qwen3" else 1)
    assert artifact.manifest.fusion == record.fusion


def test_all_weights_are_trained_into_a_whole_model(base: Path, trained: Path, run, tmp_path: Path):
    record = run(tmp_path / "out", settings=told(rank=0), start=trained)
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    moved = [name for name in before if not torch.equal(before[name], after.get(f"bert.{name}", before[name]))]
    assert "embeddings.word_embeddings.weight" in moved
    assert record.trained["start"]["steps"] == 4
    artifact = export_model(str(tmp_path / "out"), "cross-encoder", tmp_path / "artifact", precisions=("fp32",),
                            texts=docstrings()[:30])  # fmt: skip
    assert (artifact.manifest.early, artifact.manifest.fusion) == (1, record.fusion)


def test_a_training_goes_on_from_an_adapter(trained: Path, run, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    record = run(tmp_path, start=trained, settings=told(rate=1e-6, steps=1))
    assert "flatters" not in caplog.text
    assert record.trained["start"]["steps"] == 4
    for name in (WEIGHTS, EXITS):
        begun, moved = load_file(trained / name), load_file(tmp_path / name)
        assert max(float((begun[key].float() - moved[key].float()).abs().max()) for key in begun) < 1e-3


def test_a_source_that_only_validates(data: Path, run, tmp_path: Path):
    others = [write_data(tmp_path / name, seed=seed) for seed, name in enumerate(("faq", "manuals"), start=1)]
    record = run(tmp_path / "out", validate=others)
    assert set(record.quality["validation"]) == {"faq", "manuals"}
    assert record.trained["data"] == {"words": 30}, "nothing of it is held back"
    last = record.quality["history"][-1]
    means = [(last[f"eval_{name} rerank"] + last[f"eval_{name} fused"]) / 2 for name in ("faq", "manuals")]
    assert last["eval_mean"] == pytest.approx(sum(means) / 2)
    assert last["eval_worst"] == pytest.approx(min(means))
    assert set(record.quality["domain_left_out_of_the_fit"]) == {"faq", "manuals"}


def test_an_adapter_is_measured_anew_without_a_step(
    base: Path, data: Path, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    before = read_record(trained)
    record = refit(str(base), [data], tmp_path / "again", trained, encoder=str(base), tests=[data])
    assert (record.files, record.trained, record.fusion) == (before.files, before.trained, before.fusion)
    assert record.quality["test"] == before.quality["test"]
    assert "flatters" not in caplog.text
    assert read_record(tmp_path / "again") == record
    with pytest.raises(InputError, match="another folder"):
        refit(str(base), [data], trained, trained)


def test_validation_on_what_the_start_was_trained_on_is_told(
    base: Path, data: Path, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    more = shutil.copytree(data, tmp_path / "words")
    (more / "note.txt").write_text("another source of that name")
    refit(str(base), [more], tmp_path / "again", trained, encoder=str(base))
    assert "validation on words flatters" in caplog.text


def test_what_an_earlier_training_left_is_not_gone_on_with(trained: Path, run, tmp_path: Path):
    shutil.copytree(trained / "work", tmp_path / "work")
    with pytest.raises(ExportError, match="other settings"):
        run(tmp_path, settings=told(seed=1, steps=1))
    assert run(tmp_path, settings=told(seed=1, steps=1), resume=False).trained["steps"] == 1


def test_what_cannot_be_trained_is_refused(data: Path, trained: Path, run, tmp_path: Path):
    with pytest.raises(InputError, match="nothing to train on"):
        run(tmp_path / "a", data=[])
    with pytest.raises(ExportError, match="is not a folder"):
        run(tmp_path / "b", start=tmp_path / "nowhere")
    with pytest.raises(ExportError, match="give the base it was trained on"):
        run(tmp_path / "c", base=tiny_model(tmp_path / "wide", hidden=64), start=trained)
    with pytest.raises(ExportError, match=r"training set is empty|left for validation"):
        run(tmp_path / "d", data=[write_data(tmp_path / "one", passages=1)])
    folder = write_data(tmp_path / "unjudged")
    shutil.rmtree(folder / "qrels")
    with pytest.raises(CorpusError, match="qrels"):
        run(tmp_path / "e", data=[folder])
