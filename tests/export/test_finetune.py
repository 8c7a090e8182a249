"""Fine-tuning on a tiny BERT and a 30-passage corpus: the whole way, killed and resumed, and what it refuses."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import BertForSequenceClassification, BertModel

from tandem.engine.errors import CorpusError, ExportError, InputError
from tandem.engine.text.tokenizer import Tokenizer
from tandem.export.finetune import finetune, refit
from tandem.export.finetune.adapter import WEIGHTS, load_merged
from tandem.export.finetune.averaging import DECAY, Average
from tandem.export.finetune.checkpoint import LATEST
from tandem.export.finetune.data import Dataset, Passage, Question, hold_out, read_beir
from tandem.export.finetune.encode import encode
from tandem.export.finetune.forward import Workers, score_pairs
from tandem.export.finetune.judge_negatives import Judge
from tandem.export.finetune.model import Reranker
from tandem.export.finetune.negatives import mine
from tandem.export.finetune.prepare import _datasets, _questions
from tandem.export.finetune.record import read_record
from tandem.export.finetune.scorer import Scorer
from tandem.export.finetune.settings import FinetuneSettings
from tandem.export.finetune.warm_start import take_weights
from tandem.export.finetune.write import write_weights

from ..tiny import tiny_model

SETTINGS = FinetuneSettings(
    steps=6, rank=4, exits=(1, 2), warmup=2, lists=2, negatives=3, max_length=48, mining_length=32, passages=30,
    questions=24, held_out=6, validation_questions=4, validation_candidates=5, validate_every=0.03,
    checkpoint_every=0.0,
    final_questions=4, final_candidates=5, long_every=3, pseudo=(),
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"), layers=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "words")


@pytest.fixture(scope="module")
def trained(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "adapter"
    finetune(base, [data], out, settings=SETTINGS, tests=[data])
    return out


def write_data(folder: Path, passages: int = 30) -> Path:
    """A gzipped BEIR folder: passage i is a dozen words, its question three of them."""
    draw = random.Random(0)
    words = [
        "return",
        "value",
        "list",
        "file",
        "name",
        "type",
        "index",
        "string",
        "module",
        "object",
        "path",
        "number",
        "error",
        "class",
        "call",
        "test",
    ]
    texts = [" ".join(draw.choices(words, k=12)) for _ in range(passages)]
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": f"d{i}", "title": f"Title {i}", "text": text} for i, text in enumerate(texts)]
    queries = [{"_id": f"q{i}", "text": " ".join(text.split()[:3])} for i, text in enumerate(texts)]
    for name, records in (("corpus", rows), ("queries", queries)):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
    with gzip.open(folder / "qrels" / "train.tsv.gz", "wt") as file:
        file.write("query-id\tcorpus-id\tscore\n")
        file.writelines(f"q{i}\td{i}\t1\n" for i in range(passages))
    return folder


def inputs() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(5, 200, (3, 12)))


def test_adapter_is_a_standard_peft_folder(base: Path, trained: Path) -> None:
    plain = BertForSequenceClassification.from_pretrained(base, num_labels=1)
    peft = PeftModel.from_pretrained(plain, str(trained)).eval()
    with torch.no_grad():
        torch.testing.assert_close(load_merged(base, trained)(inputs()).logits, peft(inputs()).logits)


def test_written_adapter_scores_as_the_trained_model(base: Path, tmp_path: Path) -> None:
    source = BertForSequenceClassification.from_pretrained(base, num_labels=1)
    model = Reranker(source, rank=4, exits=(1, 2), seed=3, dtype=torch.float32)
    with torch.no_grad():
        for low_rank in model.low_rank.values():
            low_rank.b.normal_(std=0.1)
    write_weights(tmp_path, model, "tiny")
    ids = inputs()
    scorer = Scorer(base, tmp_path, torch.float32)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    with torch.no_grad():
        ours = model(ids, mask, torch.zeros_like(ids))
        written = scorer(ids, mask, torch.zeros_like(ids))
    assert ours.std() > 1e-4
    torch.testing.assert_close(written, ours, atol=2e-3, rtol=2e-3)  # the files are float16
    torch.testing.assert_close(load_merged(base, tmp_path)(ids, mask).logits.squeeze(-1), written[-1])


def test_training_moves_the_weights_and_is_recorded(trained: Path) -> None:
    record = read_record(trained)
    assert record is not None
    assert record.trained["steps"] == 6
    assert set(record.quality["test"]["words"]["ndcg@10"]) == {"recall", "rerank", "fused"}
    weights = load_file(trained / WEIGHTS)
    assert any(float(tensor.abs().max()) > 0 for name, tensor in weights.items() if "lora_B" in name)
    card = (trained / "README.md").read_text()
    assert all(digest in card for digest in record.files.values())


# A training that is killed by SIGKILL in its fifth step.
KILLED = """
import os, pathlib, signal, sys
from tandem.export.finetune import finetune, loop
from tandem.export.finetune.settings import FinetuneSettings
base, data, out, settings = sys.argv[1:]
whole = loop._step
def dies(run, optimizer, order, step):
    if step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(run, optimizer, order, step)
loop._step = dies
finetune(base, [pathlib.Path(data)], pathlib.Path(out), settings=FinetuneSettings.model_validate_json(settings))
"""


def test_killed_and_resumed_training_equals_an_unbroken_one(
    base: Path, data: Path, trained: Path, tmp_path: Path
) -> None:
    arguments = [str(base), str(data), str(tmp_path), SETTINGS.model_dump_json()]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "work" / LATEST).exists()
    assert not (tmp_path / WEIGHTS).exists()
    finetune(base, [data], tmp_path, settings=SETTINGS)
    unbroken, resumed = load_file(trained / WEIGHTS), load_file(tmp_path / WEIGHTS)
    assert unbroken.keys() == resumed.keys()
    for name, tensor in unbroken.items():
        assert torch.equal(tensor, resumed[name]), name


def test_the_weights_that_are_kept_are_the_mean_of_the_second_half(base: Path) -> None:
    model = Reranker(BertForSequenceClassification.from_pretrained(base, num_labels=1), rank=4, exits=(1,), seed=7)
    name, average = "head.out.bias", Average()
    own = model.trained()[name]
    with average.inside(model):
        assert own.item() == 0.0, "before the first step there is only the model itself"
    expected = None
    with torch.no_grad():
        for value in (1.0, 3.0, 2.0):
            own.fill_(value)
            average.follow(model)
            expected = value if expected is None else DECAY * expected + (1 - DECAY) * value
    with average.inside(model):
        assert own.item() == pytest.approx(expected)
    assert own.item() == 2.0


def test_another_training_may_take_an_earlier_ones_place(base: Path, data: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "out")
    other = SETTINGS.model_copy(update={"seed": 3, "steps": 3})
    record = finetune(base, [data], tmp_path / "out", settings=other, resume=False)
    assert record.files != read_record(trained).files
    assert read_record(tmp_path / "out").files == record.files


def test_a_training_goes_on_from_an_adapter(
    base: Path, data: Path, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = finetune(base, [data], tmp_path / "second", settings=SETTINGS, start=trained)
    again = Reranker(BertForSequenceClassification.from_pretrained(base, num_labels=1), rank=4, exits=(1, 2), seed=7)
    take_weights(again, trained, 30.0)
    write_weights(tmp_path / "again", again, "base")
    assert again.recall_weight.item() == pytest.approx(30.0)
    assert record.trained["start"]["steps"] == 6
    assert record.exits == (1, 2)
    for name in (WEIGHTS, "exits.safetensors"):
        begun, left, moved = (load_file(folder / name) for folder in (trained, tmp_path / "again", tmp_path / "second"))
        assert all(torch.equal(begun[key], left[key]) for key in begun)
        assert any(not torch.equal(begun[key], moved[key]) for key in begun)
        # six steps of Adam at a rate of 3e-4 move a weight by less than six times that, twice for the rounding
        assert max(float((begun[key] - moved[key]).abs().max()) for key in begun) < 12 * SETTINGS.rate
    assert "flatters" not in caplog.text
    assert "--start ADAPTER-BEFORE --out ADAPTER\n" in (tmp_path / "second" / "README.md").read_text()
    finetune(base, [data], tmp_path / "third", settings=SETTINGS, start=tmp_path / "second")
    told = (tmp_path / "third" / "README.md").read_text()
    assert "so 3 commands made it" in told
    assert told.count("\ntandem finetune ") == 3


def test_a_finished_training_is_mixed_with_what_it_goes_back_to(
    base: Path, data: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "second"
    own = finetune(base, [data], out, settings=SETTINGS, start=trained)
    unmixed = {name: load_file(out / name) for name in own.files if name.endswith(".safetensors")}
    record = finetune(base, [data], out, settings=SETTINGS, start=trained, mix=trained, mix_share=0.25)
    assert record.trained["steps"] == 6, "nothing was trained again"
    assert record.trained["mixed"]["share"] == 0.25
    for name, before in unmixed.items():
        begun, mixed = load_file(trained / name), load_file(out / name)
        for key, tensor in mixed.items():
            expected = 0.75 * begun[key].float() + 0.25 * before[key].float()
            assert torch.allclose(tensor.float(), expected, atol=2e-3), key
    card = (out / "README.md").read_text()
    assert "--mix ADAPTER-BEFORE --mix-share 0.25 --start ADAPTER-BEFORE --out ADAPTER\n" in card
    assert "25% of them and 75% of the adapter with the weights" in card
    with pytest.raises(InputError, match="share"):
        finetune(base, [data], out, settings=SETTINGS, start=trained, mix=trained, mix_share=0.0)


def test_an_adapter_is_measured_anew_without_a_step(
    base: Path, data: Path, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before, record = read_record(trained), refit(base, [data], tmp_path / "again", trained, tests=[data])
    assert before is not None
    assert (record.files, record.trained, record.fusion) == (before.files, before.trained, before.fusion)
    assert record.quality == before.quality, "the same questions are held back"
    assert "flatters" not in caplog.text
    assert read_record(tmp_path / "again") == record
    assert load_file(tmp_path / "again" / WEIGHTS).keys() == load_file(trained / WEIGHTS).keys()
    with pytest.raises(InputError, match="another folder"):
        refit(base, [data], trained, trained)


def test_a_judge_chooses_the_negatives(
    data: Path, exiting_cross_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = exiting_cross_encoder.parent / "base"
    first = finetune(base, [data], tmp_path / "out", settings=SETTINGS, judge=exiting_cross_encoder)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "--judge JUDGE" in card
    assert "75% of the negatives are among the 6 that another reranker" in card
    assert (first.trained["settings"]["lists"], first.trained["settings"]["negatives"]) == (6, 4)
    judged = list((tmp_path / "out" / "work").glob("mined-*/judged-*.safetensors"))
    assert len(judged) == 1
    for checkpoint in (tmp_path / "out" / "work").glob("*.safetensors"):
        checkpoint.unlink()
    monkeypatch.setattr(Judge, "order", None)  # judged once: a run that goes on reads what is kept
    again = finetune(base, [data], tmp_path / "out", settings=SETTINGS, judge=exiting_cross_encoder)
    assert again.files == first.files


def test_a_judge_of_another_vocabulary_is_refused(
    base: Path, data: Path, exiting_cross_encoder: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(base, tmp_path / "base")
    vocabulary = json.loads((other / "tokenizer.json").read_text())
    names = vocabulary["model"]["vocab"]
    names["swapped"] = names.pop("the")
    (other / "tokenizer.json").write_text(json.dumps(vocabulary))
    with pytest.raises(ExportError, match="has another vocabulary than"):
        finetune(other, [data], tmp_path / "out", settings=SETTINGS, judge=exiting_cross_encoder)


def test_validation_on_documents_that_the_start_was_trained_on_is_told(
    base: Path, data: Path, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = SETTINGS.model_copy(update={"seed": 1, "steps": 3})
    finetune(base, [data], tmp_path / "out", settings=other, start=trained)
    assert "validation on words flatters" in caplog.text


def test_what_cannot_be_gone_on_from_is_refused(base: Path, data: Path, trained: Path, tmp_path: Path) -> None:
    foreign = shutil.copytree(trained, tmp_path / "foreign", ignore=shutil.ignore_patterns("adapter.json", "work"))
    with pytest.raises(ExportError, match=r"foreign has no adapter.json"):
        finetune(base, [data], tmp_path / "out", settings=SETTINGS, start=foreign)
    with pytest.raises(ExportError, match="give the base it was trained on"):
        finetune(tiny_model(tmp_path / "wide", hidden=64), [data], tmp_path / "out", settings=SETTINGS, start=trained)
    with pytest.raises(ExportError, match="is not a folder"):
        finetune(base, [data], tmp_path / "out", settings=SETTINGS, start=tmp_path / "nowhere")


def test_checkpoint_of_other_settings_is_refused(base: Path, data: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "work", tmp_path / "work")
    other = SETTINGS.model_copy(update={"seed": 1})
    with pytest.raises(ExportError, match="other settings"):
        finetune(base, [data], tmp_path, settings=other)
    finetune(base, [data], tmp_path, settings=other, resume=False)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "exits.safetensors", "adapter_config.json"])
def test_damaged_file_is_refused(base: Path, trained: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(trained, folder)
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(ExportError, match="damaged"):
        load_merged(base, folder)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "exits.safetensors", "adapter_config.json"])
def test_missing_file_is_named(base: Path, trained: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(trained, folder)
    (folder / name).unlink()
    with pytest.raises(ExportError, match=f"{name} is missing"):
        load_merged(base, folder)


@pytest.mark.parametrize("recorded", [True, False], ids=["with record", "plain PEFT"])
@pytest.mark.parametrize("shape", [{"layers": 2}, {"layers": 3, "hidden": 16}], ids=["fewer layers", "narrower"])
def test_base_of_another_shape_is_refused(trained: Path, tmp_path: Path, shape: dict[str, int], recorded: bool) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(trained, folder)
    if not recorded:
        (folder / "adapter.json").unlink()
    other = tiny_model(tmp_path / "other", **shape)
    with pytest.raises(ExportError, match="give the base it was trained on"):
        load_merged(other, folder)


def test_base_with_other_weights_is_refused(trained: Path, tmp_path: Path) -> None:
    other = tiny_model(tmp_path / "other", layers=3, seed=1)
    with pytest.raises(ExportError, match="other weights of that shape"):
        load_merged(other, trained)


def test_base_of_another_family_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="BERT"):
        load_merged(tiny_model(tmp_path, "modernbert"), trained)


def test_data_without_qrels_is_refused(base: Path, tmp_path: Path) -> None:
    folder = write_data(tmp_path / "words")
    shutil.rmtree(folder / "qrels")
    with pytest.raises(CorpusError, match="qrels"):
        finetune(base, [folder], tmp_path / "out", settings=SETTINGS)


def test_empty_training_set_is_refused(base: Path, tmp_path: Path) -> None:
    folder = write_data(tmp_path / "words", passages=1)
    with pytest.raises(ExportError, match=r"empty|left for validation"):
        finetune(base, [folder], tmp_path / "out", settings=SETTINGS)


def test_no_data_at_all_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to train on"):
        finetune(base, [], tmp_path / "out", settings=SETTINGS)


def test_held_out_documents_share_nothing_with_training(data: Path) -> None:
    train, held = hold_out(read_beir(data), 6, np.random.default_rng(0))
    assert len(held.passages) == 6
    assert not {p.title for p in train.passages} & {p.title for p in held.passages}
    for side in (train, held):
        for question in side.questions:
            assert all(side.passages[row].text.startswith(question.text) for row in question.positives)
    assert len(train.questions) + len(held.questions) == 30


def test_a_whole_source_is_read_but_for_what_was_held_back_anyway(data: Path) -> None:
    some = SETTINGS.model_copy(update={"passages": 12, "held_out": 5, "pseudo": ("cloze",)})
    (few, *_), (held, *_) = _datasets([data], some)
    (all_others, *_), (still, *_) = _datasets([data], some.model_copy(update={"whole": ("words",)}))
    assert [passage.title for passage in still.passages] == [passage.title for passage in held.passages]
    assert len(few.passages) < len(all_others.passages)
    titles = {passage.title for passage in all_others.passages}
    assert titles == {f"Title {number}" for number in range(30)} - {passage.title for passage in held.passages}
    for question in all_others.questions:
        answer = all_others.passages[question.positives[0]].text
        assert answer.startswith(question.text), "questions still name their own passages"


def test_shares_decide_how_many_questions_a_source_asks() -> None:
    settings = SETTINGS.model_copy(update={"questions": 1000, "weights": {"a": 0.4, "b": 0.2}})
    assert (_questions(settings, "a"), _questions(settings, "b")) == (1000, 500)
    other = settings.model_copy(update={"shares": {"a": 0.5, "b": 0.05}})
    assert (_questions(other, "a"), _questions(other, "b")) == (1000, 100)


@pytest.mark.parametrize("named", [{"whole": ("word",)}, {"shares": {"word": 0.5}}], ids=["whole", "share"])
def test_a_share_of_no_source_is_refused(base: Path, data: Path, tmp_path: Path, named: dict[str, object]) -> None:
    with pytest.raises(InputError, match="unknown sources word; this training has words"):
        finetune(base, [data], tmp_path / "x", settings=SETTINGS.model_copy(update=named))


def test_training_reads_a_title_as_an_index_does(base: Path) -> None:
    passages = [Passage("the list", "a value."), Passage("", "file names."), Passage("the file", "text of a passage.")]
    dataset = Dataset("a set", passages, [Question("what is a list", (0,)), Question("names of a file", (1,))])
    tokenizer = Tokenizer(base / "tokenizer.json", max_length=32, segments=True)
    model = BertModel.from_pretrained(base, dtype=torch.float32).eval()
    mined = mine(dataset, model, tokenizer, questions=2, rng=np.random.default_rng(0), margin=0.10)
    read = tokenizer.encode_many(["the list a value.", "file names.", "the file text of a passage."])
    assert mined.titled.ids.tolist() == read.ids.tolist()
    np.testing.assert_allclose(mined.vectors, encode(model, tokenizer, read), atol=2e-3)
    assert mined.lexicon.frequencies[tokenizer.encode("list")[0]] == 1


def test_ragged_scores_equal_scores_one_by_one(base: Path) -> None:
    source = BertForSequenceClassification.from_pretrained(base, num_labels=1)
    model = Reranker(source, rank=4, exits=(1,), seed=0, dtype=torch.float32)
    tokenizer = Tokenizer(base / "tokenizer.json", max_length=64, segments=True)
    texts = ["a list", "the value of a longer passage of text " * 3, "", "file names"]
    pairs = tokenizer.pairs(tokenizer.encode("return a value"), tokenizer.encode_many(texts))
    with Workers(1), torch.no_grad():
        together = score_pairs(model, pairs, 0)
        alone = torch.cat([score_pairs(model, pairs.select([row]), 0) for row in range(len(texts))], dim=1)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
