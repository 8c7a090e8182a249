"""Settings of vectors, tokenizers and encoders: honoured as the library does, or named in a refusal."""

from __future__ import annotations

import json

import pytest
from transformers import BertConfig

from tandem.engine.errors import ExportError

from ...tiny import tiny_model, write_json
from .repositories import HIDDEN, decoder_reranker, edit, plain, saved_cross_encoder
from .taken import assert_equal, take

SETTINGS = "config_sentence_transformers.json"
SMALL = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("cut", [None, 8])
def test_similarity_and_dimensions(tmp_path, normalize, similarity, cut):
    folder = tiny_model(tmp_path / "model", normalize=normalize)
    edit(folder / SETTINGS, similarity_fn_name=similarity, truncate_dim=cut)
    taken = take(folder)
    unit = similarity == "cosine" or (normalize and cut is None)
    assert (taken.usage.similarity, taken.usage.dimension) == ("cosine" if unit else "dot", cut or HIDDEN)
    assert (taken.usage.pooling is None) == (cut is not None)
    assert_equal(taken, tmp_path / "scratch")


def test_wished_dimensions_win(tmp_path):
    folder = tiny_model(tmp_path / "model")
    edit(folder / SETTINGS, truncate_dim=16)
    taken = take(folder, dimensions=8)
    assert taken.usage.dimension == 8
    assert_equal(taken, tmp_path / "scratch", truncate_dim=8)
    with pytest.raises(ExportError, match="of which the first 64 cannot be kept"):
        take(folder, dimensions=64)
    with pytest.raises(ExportError, match="--dimensions -3 leaves nothing of a vector"):
        take(folder, dimensions=-3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"similarity_fn_name": "euclidean"}, r"compares by euclidean \(similarity_fn_name\)"),
        ({"similarity_fn_name": "manhattan"}, r"compares by manhattan \(similarity_fn_name\)"),
        ({"similarity_fn_name": "maxsim"}, "sets similarity_fn_name to 'maxsim'; it must be one of cosine, dot"),
        ({"truncate_dim": "8"}, "sets truncate_dim to '8'"),
        ({"truncate_dim": 0}, "sets truncate_dim to 0"),
        ({"truncate_dim": 64}, "of which the first 64 cannot be kept"),
        ({"model_type": "SparseEncoder"}, "is a SparseEncoder of sentence-transformers"),
        ({"model_type": ["CrossEncoder"]}, "supported are SentenceTransformer and CrossEncoder"),
        ({"model_type": "CrossEncoder"}, "is a cross-encoder .*export it with --as cross-encoder"),
    ],
)
def test_settings_of_the_model_that_are_refused(tmp_path, settings, said):
    edit(tiny_model(tmp_path / "model") / SETTINGS, **settings)
    with pytest.raises(ExportError, match=said):
        take(tmp_path / "model")


@pytest.mark.parametrize("where", ["tokenizer_config.json", "sentence_bert_config.json"])
def test_texts_are_cut_on_the_side_that_the_tokenizer_says(tmp_path, where):
    folder, side = tiny_model(tmp_path / "model"), {"truncation_side": "left"}
    edit(folder / where, **(side if where.startswith("tokenizer") else {"tokenizer_args": side}))
    taken = take(folder, max_length=12)
    assert taken.usage.cut_side == "left"
    tokenizer = taken.tokenizer(tmp_path / "ids")
    first, last = ("one two three four " * 8 + end for end in ("alpha", "omega"))
    assert tokenizer.single(tokenizer.encode_many([first]))[0].tolist() != (
        tokenizer.single(tokenizer.encode_many([last]))[0].tolist()
    ), "the end is read"
    assert_equal(taken, tmp_path / "scratch", asked={"max_length": 12})


def test_a_cross_encoder_that_cuts_on_the_left(tmp_path):
    folder = saved_cross_encoder(tmp_path / "model")
    edit(folder / "tokenizer_config.json", truncation_side="left", model_max_length=16)
    taken = take(folder, "cross-encoder")
    assert taken.usage.cut_side == "left"
    assert_equal(taken, tmp_path / "scratch")


def test_a_template_is_not_cut_on_the_left(tmp_path):
    folder = decoder_reranker(tmp_path / "model")
    edit(folder / "tokenizer_config.json", truncation_side="left")
    with pytest.raises(ExportError, match="truncation_side"):
        take(folder, "cross-encoder")


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_lower_case_that_the_tokenizer_does_not_make(tmp_path, family):
    """ModernBERT's keeps capitals, so that the setting has to reach the artifact's tokenizer."""
    folder = tiny_model(tmp_path / "model", family)
    plain_ids = take(folder).tokenizer(tmp_path / "plain").encode("MiXeD").tolist()
    edit(folder / "sentence_bert_config.json", do_lower_case=True)
    taken = take(folder)
    ids = taken.tokenizer(tmp_path / "lower").encode("MiXeD").tolist()
    assert (ids == plain_ids) == (family == "bert")
    assert_equal(taken, tmp_path / "scratch")


@pytest.mark.parametrize("name", ["model_args", "model_kwargs", "config_args", "config_kwargs", "processor_kwargs"])
def test_arguments_of_the_wrong_kind_are_named(tmp_path, name):
    edit(tiny_model(tmp_path / "model") / "sentence_bert_config.json", **{name: [1]})
    with pytest.raises(ExportError, match=rf"sets {name} to \[1\]; it must be an object"):
        take(tmp_path / "model")


def test_arguments_of_a_configuration_are_honoured(tmp_path):
    folder = tiny_model(tmp_path / "model")
    edit(folder / "sentence_bert_config.json", config_args={"hidden_act": "relu"})
    taken = take(folder)
    assert taken.loaded.network.config.hidden_act == "relu"
    assert_equal(taken, tmp_path / "scratch")


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("sentence_bert_config.json", "sets unheard_of, which is not known here"),
        ("1_Pooling/config.json", "sets unheard_of, which is not known here"),
        ("2_Normalize/config.json", "sets unheard_of, which is not known here"),
        (SETTINGS, "sets unheard_of, which is not known here"),
    ],
)
def test_a_setting_that_is_not_known_is_named_with_its_file(tmp_path, file, said):
    edit(tiny_model(tmp_path / "model", layout="since 5.4") / file, unheard_of=1)
    with pytest.raises(ExportError, match=rf"{file}.* {said}"):
        take(tmp_path / "model")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pooling_mode": "median"}, "sets pooling_mode to 'median'; it must be one or several of cls, mean, max"),
        ({"pooling_mode": []}, r"sets pooling_mode to \[\]"),
        ({"include_prompt": "no"}, "sets include_prompt to 'no'; it must be true or false"),
    ],
)
def test_a_pooling_that_does_not_exist_is_named(tmp_path, changes, said):
    edit(tiny_model(tmp_path / "model", layout="since 5.4") / "1_Pooling" / "config.json", **changes)
    with pytest.raises(ExportError, match=said):
        take(tmp_path / "model")


@pytest.mark.parametrize("activation", ["relu", "gelu_new"])
def test_other_activations_inside_are_fine(tmp_path, activation):
    folder = plain(tmp_path / "model", BertConfig(**SMALL, hidden_act=activation))
    assert_equal_plain(folder, tmp_path)


def test_an_encoder_with_one_segment(tmp_path):
    folder = plain(tmp_path / "model", BertConfig(**SMALL, type_vocab_size=1))
    taken = assert_equal_plain(folder, tmp_path)
    assert not taken.usage.segments
    cross = plain(tmp_path / "cross", BertConfig(**SMALL, type_vocab_size=1), labels=1)
    with pytest.raises(ExportError, match=r"marks a passage as the second segment.*type_vocab_size"):
        take(cross, "cross-encoder")


@pytest.mark.parametrize("pooling", ["cls", "mean", "lasttoken"])
def test_a_plain_encoder_is_pooled_as_one_says(tmp_path, pooling):
    folder = plain(tmp_path / "model", BertConfig(**SMALL))
    taken = take(folder, pooling=pooling)
    assert (taken.usage.pooling, taken.usage.similarity, taken.usage.dimension) == (pooling, "cosine", HIDDEN)


def test_a_plain_encoder_needs_a_pooling_and_others_take_none(tmp_path):
    folder = plain(tmp_path / "model", BertConfig(**SMALL))
    with pytest.raises(ExportError, match=r"no modules\.json, so nothing says how it pools; say it with --pooling"):
        take(folder)
    write_json(folder / SETTINGS, {"prompts": {"query": "q: "}})
    with pytest.raises(ExportError, match=rf"has {SETTINGS} but no modules\.json"):
        take(folder, pooling="mean")
    with pytest.raises(ExportError, match="leave --pooling out"):
        take(tiny_model(tmp_path / "whole"), pooling="mean")


def test_a_transformer_in_a_folder_of_its_own(tmp_path):
    folder = tiny_model(tmp_path / "model")
    inner = folder / "0_Transformer"
    inner.mkdir()
    for path in list(folder.iterdir()):
        if path.is_file() and path.name not in ("modules.json", SETTINGS):
            path.rename(inner / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    write_json(folder / "modules.json", modules)
    edit(inner / "sentence_bert_config.json", max_seq_length=40)
    taken = take(folder)
    assert taken.usage.max_length == 40
    assert_equal(taken, tmp_path / "scratch")


def test_added_tokens_beyond_the_embeddings_are_refused(tmp_path):
    folder = tiny_model(tmp_path / "model")
    tokenizer = take(folder).loaded.tokenizer
    tokenizer.add_tokens(["[E1]", "[E2]"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ExportError, match=r"tokenizer has ids up to \d+, and the model has embeddings for \d+"):
        take(folder)


def assert_equal_plain(folder, tmp_path):
    """A plain encoder under the mean, which is what the library takes for one without modules.json."""
    taken = take(folder, pooling="mean")
    assert_equal(taken, tmp_path / "scratch")
    return taken
