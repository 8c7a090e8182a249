"""Files that cannot be used end in one sentence, whatever a library makes of them."""

from __future__ import annotations

import json

import pytest
import sentencepiece
from transformers import XLMRobertaConfig

from tandem.engine.errors import ExportError
from tandem.export.parity.samples import docstrings

from ...tiny import tiny_model, write_json
from .repositories import edit, plain
from .taken import assert_equal, take

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 466062\n"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors", "config.json", "1_Pooling/config.json"])
def test_pointers_of_git_lfs(tmp_path, name):
    (tiny_model(tmp_path / "model") / name).write_text(POINTER)
    with pytest.raises(ExportError, match=rf"{name} is a pointer of git-lfs and not the file; fetch the files"):
        take(tmp_path / "model")


def test_no_tokenizer_at_all(tmp_path):
    folder = tiny_model(tmp_path / "model")
    for name in TOKENIZER:
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(ExportError, match=r"model has no tokenizer \(tokenizer\.json, .*vocab\.txt or a \*\.model\)"):
        take(folder)


def test_half_a_tokenizer(tmp_path):
    path = tiny_model(tmp_path / "model") / "tokenizer.json"
    path.write_text(path.read_text()[:5000])
    with pytest.raises(ExportError, match=r"tokenizer\.json is not JSON"):
        take(tmp_path / "model")


def test_half_of_the_weights(tmp_path):
    path = tiny_model(tmp_path / "model") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ExportError, match="model cannot be loaded"):
        take(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("modules.json", "[", r"modules\.json is not JSON"),
        ("modules.json", "[1]", r"modules\.json holds no list of JSON objects"),
        ("modules.json", "{}", r"modules\.json holds no list of JSON objects"),
        ("config.json", "[]", r"config\.json holds no JSON object"),
        ("1_Pooling/config.json", "null and void", r"1_Pooling/config\.json is not JSON"),
        ("config_sentence_transformers.json", "\ud800".encode("utf-16", "surrogatepass"), "is not JSON"),
        ("sentence_bert_config.json", "[" * 100_000, "is not JSON"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, text, said):
    path = tiny_model(tmp_path / "model") / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ExportError, match=said):
        take(tmp_path / "model")


@pytest.mark.parametrize(
    "changes",
    [{"num_attention_heads": "four"}, {"hidden_act": "no_such"}, {"num_attention_heads": 5}, {"vocab_size": -1}],
)
def test_a_configuration_that_makes_no_model(tmp_path, changes):
    edit(tiny_model(tmp_path / "model") / "config.json", **changes)
    with pytest.raises(ExportError, match=r"model (cannot be loaded|has no fitting weights)"):
        take(tmp_path / "model")


def test_a_decoder_configuration_of_an_encoder(tmp_path):
    edit(tiny_model(tmp_path / "model") / "config.json", is_decoder=True)
    with pytest.raises(ExportError, match=r"configured as a decoder \(is_decoder\)"):
        take(tmp_path / "model")


def test_a_tokenizer_without_padding(tmp_path):
    folder = tiny_model(tmp_path / "model", "modernbert")
    edit(folder / "tokenizer_config.json", pad_token=None)
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(ExportError, match="no padding token"):
        take(folder)


def test_a_tokenizer_of_sentencepiece_alone(tmp_path):
    """Repositories of XLM-R models with sentencepiece.bpe.model and no tokenizer.json."""
    config = XLMRobertaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, type_vocab_size=1,
        max_position_embeddings=130, bos_token_id=0, pad_token_id=1, eos_token_id=2,
    )  # fmt: skip
    folder = plain(tmp_path / "model", config, labels=1, family="xlm-roberta")
    for name in TOKENIZER:
        (folder / name).unlink(missing_ok=True)
    (tmp_path / "text.txt").write_text("\n".join(" ".join(text.split()) for text in docstrings()[:300]))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text.txt"), model_prefix=str(tmp_path / "spm"), vocab_size=400, model_type="unigram",
        character_coverage=1.0, minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    (tmp_path / "spm.model").rename(folder / "sentencepiece.bpe.model")
    settings = {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": 128}
    write_json(folder / "tokenizer_config.json", settings)
    taken = take(folder, "cross-encoder")
    assert json.loads((folder / "config.json").read_text())["model_type"] == "xlm-roberta"
    assert len(taken.loaded.tokenizer) > 300
    assert_equal(taken, tmp_path / "scratch")
