"""How many tokens a model reads: by sentence-transformers' order of precedence, never more than there are positions."""

from __future__ import annotations

import json

import pytest
from transformers import BertConfig

from tandem.engine.errors import ExportError
from tandem.export.source.layout import SENTENCE_CONFIGS

from ...tiny import MAX_LENGTH, tiny_model, write_json, write_modules
from .repositories import decoder_reranker, edit, plain
from .taken import assert_equal, take


def length(folder, kind="bi-encoder", **wishes):
    return take(folder, kind, **wishes).usage.max_length


@pytest.mark.parametrize("name", SENTENCE_CONFIGS)
def test_every_name_of_the_sentence_config(tmp_path, name):
    folder = tiny_model(tmp_path / "model")
    (folder / "sentence_bert_config.json").unlink()
    write_json(folder / name, {"max_seq_length": 40, "do_lower_case": False})
    assert length(folder) == 40


def test_the_first_name_counts(tmp_path):
    folder = tiny_model(tmp_path / "model")
    write_json(folder / "sentence_xlnet_config.json", {"max_seq_length": 30})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 40})
    assert length(folder) == 40


@pytest.mark.parametrize(
    ("sentence", "tokenizer", "expected"),
    [
        ({"max_seq_length": 96}, 64, 96),  # wins over the tokenizer's
        ({"max_seq_length": None}, 64, 64),
        ({"max_seq_length": 96, "tokenizer_args": {"model_max_length": 32}}, 64, 32),  # wins over both
        ({"max_seq_length": 96, "processor_kwargs": {"model_max_length": 48}}, 64, 48),
        ({"max_seq_length": 512}, 64, MAX_LENGTH),  # there are no more positions
        ({}, 10**30, MAX_LENGTH),
    ],
)
def test_the_order_of_precedence(tmp_path, sentence, tokenizer, expected):
    folder = tiny_model(tmp_path / "model")
    write_json(folder / "sentence_bert_config.json", sentence)
    edit(folder / "tokenizer_config.json", model_max_length=tokenizer)
    taken = take(folder)
    assert taken.usage.max_length == expected
    if expected < MAX_LENGTH:
        assert_equal(taken, tmp_path / "scratch")


def test_a_cross_encoders_leftover_sentence_config_counts_for_nothing(tmp_path):
    folder = tiny_model(tmp_path / "model", kind="cross-encoder")
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 16, "unheard_of": 1})
    assert length(folder, "cross-encoder") == MAX_LENGTH
    write_modules(folder, ("Transformer", "Pooling"))
    write_json(folder / "config_sentence_transformers.json", {"prompts": {"query": "q: "}})
    taken = take(folder, "cross-encoder")
    assert (taken.usage.max_length, taken.usage.prompts.query) == (MAX_LENGTH, "")
    assert_equal(taken, tmp_path / "scratch")


def test_positions_after_the_padding_id(tmp_path):
    folder = tiny_model(tmp_path / "model", "xlm-roberta", "cross-encoder")
    edit(folder / "tokenizer_config.json", model_max_length=10**30)
    assert json.loads((folder / "config.json").read_text())["max_position_embeddings"] == MAX_LENGTH + 2
    taken = take(folder, "cross-encoder")
    assert taken.usage.max_length == MAX_LENGTH


def test_a_wished_length(tmp_path):
    folder = tiny_model(tmp_path / "model")
    assert length(folder, max_length=16) == 16
    with pytest.raises(ExportError, match=f"positions for {MAX_LENGTH} tokens; --max-length 500 is not possible"):
        take(folder, max_length=500)
    with pytest.raises(ExportError, match="would read 2 tokens, of which 2 are special ones"):
        take(folder, max_length=2)
    assert length(decoder_reranker(tmp_path / "decoder"), "cross-encoder", max_length=MAX_LENGTH) == MAX_LENGTH


@pytest.mark.parametrize("said", ["512", 12.5, True, 0, -1])
def test_a_length_that_is_no_number_of_tokens_is_named(tmp_path, said):
    folder = tiny_model(tmp_path / "model")
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": said})
    with pytest.raises(ExportError, match=r"sentence_bert_config\.json sets max_seq_length to .*a whole number"):
        take(folder)
    write_json(folder / "sentence_bert_config.json", {"tokenizer_args": {"model_max_length": "512"}})
    with pytest.raises(ExportError, match="sets model_max_length in tokenizer_args to '512'"):
        take(folder)
    write_json(folder / "sentence_bert_config.json", {})
    edit(folder / "tokenizer_config.json", model_max_length="512")
    with pytest.raises(ExportError, match=r"tokenizer_config\.json sets model_max_length to '512'"):
        take(folder)


def test_a_configuration_without_positions_has_its_familys(tmp_path):
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64)
    folder = plain(tmp_path / "model", config)
    edit(folder / "config.json", max_position_embeddings=None)
    edit(folder / "tokenizer_config.json", model_max_length=10**30)
    assert length(folder, pooling="mean") == 512
