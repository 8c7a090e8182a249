"""A model's own files decide how it is used."""

from __future__ import annotations

import json

import pytest

from tandem.engine.errors import ExportError
from tandem.engine.models.artifact import Prompts
from tandem.export.source.resolve import Origin
from tandem.export.source.usage_config import read

from ...tiny import MAX_LENGTH, tiny_model, write_json


def origin(folder):
    return Origin("some/model", folder)


def edit(path, **changes):
    value = json.loads(path.read_text())
    path.write_text(json.dumps({key: item for key, item in (value | changes).items() if item is not None}))


def test_mean_pooling_without_prompts(tmp_path):
    reading = read(origin(tiny_model(tmp_path)), "bi-encoder")
    assert (reading.family, reading.pooling, reading.normalize, reading.prompts) == ("bert", "mean", True, Prompts())


def test_cls_pooling_dot_product_and_prompts(tmp_path):
    prompts = {"query": "query: ", "passage": "passage: "}
    reading = read(origin(tiny_model(tmp_path, pooling="cls", normalize=False, prompts=prompts)), "bi-encoder")
    assert (reading.pooling, reading.normalize) == ("cls", False)
    assert reading.prompts == Prompts(query="query: ", passage="passage: ")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"prompts": {"document": "d: ", "passage": "p: "}}, Prompts(passage="d: ")),
        ({"prompts": {"all": "x: "}, "default_prompt_name": "all"}, Prompts(query="x: ", passage="x: ")),
        (
            {"prompts": {"query": "q: ", "all": "x: "}, "default_prompt_name": "all"},
            Prompts(query="q: ", passage="x: "),
        ),
        ({"prompts": {"classification": "c: "}}, Prompts()),
        ({}, Prompts()),
    ],
)
def test_prompts_follow_sentence_transformers_names(tmp_path, settings, expected):
    write_json(tiny_model(tmp_path) / "config_sentence_transformers.json", settings)
    assert read(origin(tmp_path), "bi-encoder").prompts == expected


def test_a_model_without_normalize_compared_by_cosine_is_normalised(tmp_path):
    tiny_model(tmp_path, normalize=False)
    edit(tmp_path / "config_sentence_transformers.json", similarity_fn_name=None)
    assert read(origin(tmp_path), "bi-encoder").normalize


def test_the_shortest_of_all_lengths_holds(tmp_path):
    tiny_model(tmp_path)
    assert read(origin(tmp_path), "bi-encoder").max_length == MAX_LENGTH
    edit(tmp_path / "tokenizer_config.json", model_max_length=100)
    assert read(origin(tmp_path), "bi-encoder").max_length == 100
    edit(tmp_path / "sentence_bert_config.json", max_seq_length=64)
    assert read(origin(tmp_path), "bi-encoder").max_length == 64


def test_xlm_roberta_counts_positions_after_the_padding_id(tmp_path):
    tiny_model(tmp_path, "xlm-roberta", "cross-encoder")
    edit(tmp_path / "tokenizer_config.json", model_max_length=10**30)
    assert json.loads((tmp_path / "config.json").read_text())["max_position_embeddings"] == MAX_LENGTH + 2
    assert read(origin(tmp_path), "cross-encoder").max_length == MAX_LENGTH


@pytest.mark.parametrize(
    ("changes", "activation"),
    [
        ({}, "identity"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, "sigmoid"),
        ({"sentence_transformers": None}, "sigmoid"),
        (
            {"sentence_transformers": None, "sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
            "identity",
        ),
    ],
)
def test_the_activation_is_the_configurations(tmp_path, changes, activation):
    edit(tiny_model(tmp_path, kind="cross-encoder") / "config.json", **changes)
    assert read(origin(tmp_path), "cross-encoder").activation == activation


def test_another_activation_or_several_labels_are_refused(tmp_path):
    config = tiny_model(tmp_path, kind="cross-encoder") / "config.json"
    edit(config, sentence_transformers={"activation_fn": "torch.nn.modules.activation.Tanh"})
    with pytest.raises(ExportError, match="the activation Tanh"):
        read(origin(tmp_path), "cross-encoder")
    edit(config, id2label={"0": "no", "1": "yes"})
    with pytest.raises(ExportError, match="answers with 2 labels"):
        read(origin(tmp_path), "cross-encoder")


@pytest.mark.parametrize("mode", ["max_tokens", "weightedmean_tokens", "lasttoken"])
def test_other_poolings_are_refused(tmp_path, mode):
    path = tiny_model(tmp_path) / "1_Pooling/config.json"
    write_json(path, {f"pooling_mode_{mode}": True})
    with pytest.raises(ExportError, match=f"pools by {mode}"):
        read(origin(tmp_path), "bi-encoder")


def test_two_poolings_at_once_are_refused(tmp_path):
    write_json(
        tiny_model(tmp_path) / "1_Pooling/config.json",
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
    )
    with pytest.raises(ExportError, match="cls_token and mean_tokens"):
        read(origin(tmp_path), "bi-encoder")


def test_a_prompt_left_out_of_the_mean_is_refused(tmp_path):
    tiny_model(tmp_path, prompts={"query": "q: "})
    edit(tmp_path / "1_Pooling/config.json", include_prompt=False)
    with pytest.raises(ExportError, match="include_prompt"):
        read(origin(tmp_path), "bi-encoder")


def test_lowercasing_outside_the_tokenizer_is_refused(tmp_path):
    tiny_model(tmp_path)
    edit(tmp_path / "sentence_bert_config.json", do_lower_case=True)
    edit(tmp_path / "tokenizer_config.json", do_lower_case=False)
    with pytest.raises(ExportError, match="lower-cases outside its tokenizer"):
        read(origin(tmp_path), "bi-encoder")


def test_a_dense_layer_is_refused(tmp_path):
    tiny_model(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.Dense"
    write_json(tmp_path / "modules.json", modules)
    with pytest.raises(ExportError, match="Transformer → Pooling → Dense"):
        read(origin(tmp_path), "bi-encoder")


def test_nothing_is_guessed_about_pooling(tmp_path):
    (tiny_model(tmp_path) / "modules.json").unlink()
    with pytest.raises(ExportError, match=r"no modules\.json"):
        read(origin(tmp_path), "bi-encoder")


def test_a_pooling_outside_the_folder_is_not_read(tmp_path):
    modules = json.loads((tiny_model(tmp_path) / "modules.json").read_text())
    modules[1]["path"] = "../elsewhere"
    write_json(tmp_path / "modules.json", modules)
    with pytest.raises(ExportError, match="outside its own folder"):
        read(origin(tmp_path), "bi-encoder")


def test_an_unsupported_family_is_refused(tmp_path):
    edit(tiny_model(tmp_path) / "config.json", model_type="gpt2")
    with pytest.raises(ExportError, match="family 'gpt2'; supported are bert, xlm-roberta, modernbert"):
        read(origin(tmp_path), "bi-encoder")


def test_a_broken_file_is_named(tmp_path):
    (tiny_model(tmp_path) / "modules.json").write_text("[")
    with pytest.raises(ExportError, match=r"modules\.json is not JSON"):
        read(origin(tmp_path), "bi-encoder")
    (tmp_path / "modules.json").write_text("[1]")
    with pytest.raises(ExportError, match=r"modules\.json holds no list"):
        read(origin(tmp_path), "bi-encoder")
