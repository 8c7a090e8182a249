"""What a model is built of: both of the library's formats, every pooling, and cross-encoders of several modules."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, T5Config

from tandem.engine.errors import ExportError
from tandem.engine.text.prompting import PairText
from tandem.export.quiet import quiet
from tandem.export.source.library import load
from tandem.export.source.resolve import resolve
from tandem.export.source.wishes import Wishes

from ...tiny import LAYOUTS, tiny_model, write_json, write_modules
from .repositories import (
    HIDDEN,
    TEMPLATE,
    cross_encoder_settings,
    decoder_reranker,
    dense,
    edit,
    modular_cross_encoder,
    saved_cross_encoder,
)
from .taken import TEXTS, assert_equal, take

MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
IDENTITY = "torch.nn.modules.linear.Identity"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "modernbert"])
def test_both_formats_of_the_library_are_one_model(tmp_path, layout, family):
    taken = take(tiny_model(tmp_path / "model", family, layout=layout))
    assert (taken.usage.pooling, taken.usage.similarity, taken.usage.dimension) == ("mean", "cosine", HIDDEN)
    assert_equal(taken, tmp_path / "scratch")


def test_our_files_of_the_new_format_are_the_librarys(tmp_path):
    """What tests.tiny writes is what sentence-transformers writes now, up to versions and the card."""
    old, new = tmp_path / "old", tmp_path / "new"
    tiny_model(old, layout="before 5.4", pooling="cls", prompts={"query": "q: "})
    tiny_model(new, layout="since 5.4", pooling="cls", prompts={"query": "q: "})
    with quiet():
        SentenceTransformer(str(old), device="cpu").save(str(tmp_path / "saved"))
    for name in ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json", "2_Normalize/config.json"):
        assert json.loads((new / name).read_text()) == json.loads((tmp_path / "saved" / name).read_text()), name
    ours = json.loads((new / "config_sentence_transformers.json").read_text())
    theirs = json.loads((tmp_path / "saved" / "config_sentence_transformers.json").read_text())
    assert ours.keys() == theirs.keys()


@pytest.mark.parametrize("mode", MODES)
def test_a_pooling_as_flags(tmp_path, mode):
    tiny_model(tmp_path / "model")
    flags = {f"pooling_mode_{name}": name == mode for name in MODES}
    write_json(tmp_path / "model" / "1_Pooling" / "config.json", {"word_embedding_dimension": HIDDEN} | flags)
    taken = take(tmp_path / "model")
    assert taken.usage.pooling == mode.removesuffix("_tokens" if "sqrt" not in mode else "").removesuffix("_token")
    assert_equal(taken, tmp_path / "scratch")


@pytest.mark.parametrize(("said", "pooling"), [("max", "max"), (["lasttoken"], "lasttoken"), (["cls", "mean"], None)])
def test_a_pooling_as_a_word_and_as_a_list(tmp_path, said, pooling):
    tiny_model(tmp_path / "model", layout="since 5.4", normalize=False)
    many = len(said) if isinstance(said, list) else 1
    edit(tmp_path / "model" / "1_Pooling" / "config.json", pooling_mode=said)
    taken = take(tmp_path / "model")
    assert (taken.usage.pooling, taken.usage.dimension) == (pooling, many * HIDDEN)
    assert_equal(taken, tmp_path / "scratch")


def test_dense_layers_behind_a_pooling(tmp_path):
    """LaBSE, distiluse and EmbeddingGemma are built so."""
    folder = tiny_model(tmp_path / "model")
    write_modules(folder, ("Transformer", "Pooling", "Dense", "Dense", "Normalize"))
    dense(folder / "2_Dense", HIDDEN, 48)
    dense(folder / "3_Dense", 48, 24, bias=False, activation_function=IDENTITY)
    taken = take(folder)
    assert (taken.usage.pooling, taken.usage.dimension) == (None, 24)
    assert_equal(taken, tmp_path / "scratch")


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(("family", "pooling"), [("modernbert", "cls"), ("bert", "mean")])
def test_a_modular_cross_encoder(tmp_path, outputs, family, pooling):
    taken = take(modular_cross_encoder(tmp_path / "model", outputs, family, pooling), "cross-encoder")
    assert taken.usage.activation == "identity"
    assert_equal(taken, tmp_path / "scratch")


def test_a_modular_cross_encoder_of_three_labels_or_without_scores_is_refused(tmp_path):
    folder = modular_cross_encoder(tmp_path / "three", 3)
    with pytest.raises(ExportError, match="answers with 3 labels"):
        take(folder, "cross-encoder")
    folder = modular_cross_encoder(tmp_path / "none")
    edit(folder / "4_Dense" / "config.json", module_output_name="sentence_embedding")
    with pytest.raises(ExportError, match="Transformer → Pooling → Dense → LayerNorm → Dense, whose last is no Dense"):
        take(folder, "cross-encoder")


@pytest.mark.parametrize("both", [True, False])
def test_a_decoder_that_answers_with_a_word(tmp_path, both):
    folder = decoder_reranker(tmp_path / "model", both=both)
    taken = take(folder, "cross-encoder")
    text = taken.usage.pair_text
    assert text == PairText(
        head="<|system|>",
        instruction="Find what answers",
        neck="<|query|>",  # Jinja takes the line's end after a block away
        middle="\n<|passage|>",
        tail="\n<|answer|>",
    )
    assert taken.usage.prompts.query == ""
    assert_equal(taken, tmp_path / "scratch")
    _assert_text_scores(taken, f"{text.head}{text.instruction}{text.neck}", text.middle, text.tail)


def test_a_decoders_default_prompt_is_its_instruction(tmp_path):
    prompts = {"web": "Find web pages", "code": "Find code"}
    taken = take(decoder_reranker(tmp_path / "model", prompts=prompts, default_prompt_name="web"), "cross-encoder")
    text = taken.usage.pair_text
    assert text is not None
    assert (text.instruction, taken.usage.prompts.query, taken.usage.prompts.named) == ("Find web pages", "", prompts)
    assert_equal(taken, tmp_path / "scratch")
    _assert_text_scores(taken, f"{text.head}{text.instruction}{text.neck}", text.middle, text.tail)


def test_a_wished_prompt_is_a_decoders_instruction(tmp_path):
    folder = decoder_reranker(tmp_path / "model")
    text = take(folder, "cross-encoder", query_prompt="Find recipes").usage.pair_text
    assert text is not None
    assert (text.head, text.instruction, text.neck) == ("<|system|>", "Find recipes", "<|query|>")


def test_a_template_without_a_place_for_an_instruction(tmp_path):
    template = TEMPLATE.replace("{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}", "").replace(
        "{% endif %}", ""
    )
    text = take(decoder_reranker(tmp_path / "model", template), "cross-encoder").usage.pair_text
    assert text is not None
    assert (text.head, text.instruction, text.neck) == ("<|system|>Find what answers\n<|query|>", None, "")
    with pytest.raises(ExportError, match=r"no place for an instruction .*'Find recipes' would be lost"):
        take(tmp_path / "model", "cross-encoder", query_prompt="Find recipes")


def test_variables_of_a_template_are_honoured(tmp_path):
    folder = decoder_reranker(tmp_path / "model", TEMPLATE + "{% if add_generation_prompt %}so: {% endif %}")
    sentence = folder / "sentence_bert_config.json"
    edit(sentence, processing_kwargs={"chat_template": {"add_generation_prompt": True}})
    taken = take(folder, "cross-encoder")
    text = taken.usage.pair_text
    assert text is not None
    assert text.tail == "\n<|answer|>so: "
    _assert_text_scores(taken, f"{text.head}{text.instruction}{text.neck}", text.middle, text.tail)
    edit(sentence, processing_kwargs={"text": {"max_length": 9}})
    with pytest.raises(ExportError, match=r"processing_kwargs \(text\)"):
        take(folder, "cross-encoder")
    edit(sentence, processing_kwargs={"chat_template": {"restore_suffix": False}})
    with pytest.raises(ExportError, match=r"processing_kwargs \(chat_template\)"):
        take(folder, "cross-encoder")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for m in messages %}{{ m.role }}{% endfor %}", "does not take one query and then one document"),
        ("{{ raise_exception('no such role') }}", "no such role"),
    ],
)
def test_a_template_that_carries_no_pair_is_refused(tmp_path, template, said):
    with pytest.raises(ExportError, match=said):
        take(decoder_reranker(tmp_path / "model", template), "cross-encoder")


def test_tokens_that_a_decoder_does_not_have_are_refused(tmp_path):
    folder = decoder_reranker(tmp_path / "model")
    edit(folder / "1_LogitScore" / "config.json", true_token_id=10**6)
    with pytest.raises(ExportError, match=r"LogitScore names the tokens \[301, 1000000\]"):
        take(folder, "cross-encoder")


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (("Transformer", "Pooling", "CNN"), "a module CNN, which no graph here has; supported are Pooling, Dense"),
        (("Transformer", "WordWeights", "Pooling"), "a module WordWeights"),
        (("StaticEmbedding",), "has StaticEmbedding; only models with a Transformer first"),
        ((), "has no modules"),
        (("Transformer",), "a Pooling must follow its Transformer"),
        (("Transformer", "Normalize", "Pooling"), "Transformer → Normalize → Pooling; a Pooling must follow"),
        (("Transformer", "Pooling", "Pooling"), "Transformer → Pooling → Pooling; a Pooling in that place"),
        (("Transformer", "Pooling", "LogitScore"), "a LogitScore in that place"),
    ],
)
def test_other_modules_are_named(tmp_path, kinds, said):
    folder = tiny_model(tmp_path / "model")
    write_modules(folder, kinds, "since 5.4" if "LogitScore" in kinds else "before 5.4")
    write_json(folder / "2_Pooling" / "config.json", {"word_embedding_dimension": HIDDEN})
    write_json(folder / "2_LogitScore" / "config.json", {"true_token_id": 5})
    with pytest.raises(ExportError, match=said):
        take(folder)


def test_a_module_without_its_settings_or_outside_the_folder_is_named(tmp_path):
    folder = tiny_model(tmp_path / "model")
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["path"] = "../elsewhere"
    write_json(folder / "modules.json", modules)
    with pytest.raises(ExportError, match=r"outside the model \(\.\./elsewhere\)"):
        take(folder)
    modules[1]["path"] = "elsewhere"
    write_json(folder / "modules.json", modules)
    with pytest.raises(ExportError, match=r"elsewhere/config\.json of the Pooling is missing"):
        take(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"activation_function": "mine.Swish"}, "sets activation_function to 'mine.Swish'"),
        ({"activation_function": "torch.nn.NoSuch"}, "NoSuch"),
        ({"module_input_name": "token_embeddings"}, "sets module_input_name to 'token_embeddings'"),
        ({"out_features": 7}, "cannot be loaded"),
        ({"quantise": True}, "sets quantise, which is not known here"),
    ],
)
def test_a_dense_layer_that_cannot_be_honoured_is_named(tmp_path, changes, said):
    folder = tiny_model(tmp_path / "model")
    write_modules(folder, ("Transformer", "Pooling", "Dense"))
    dense(folder / "2_Dense", HIDDEN, 24)
    edit(folder / "2_Dense" / "config.json", **changes)
    with pytest.raises(ExportError, match=said):
        take(folder)


@pytest.mark.parametrize("missing", ["2_Dense/model.safetensors", "2_Dense/config.json"])
def test_a_dense_layer_that_is_not_there_is_named(tmp_path, missing):
    folder = tiny_model(tmp_path / "model")
    write_modules(folder, ("Transformer", "Pooling", "Dense"))
    dense(folder / "2_Dense", HIDDEN, 24)
    (folder / missing).unlink()
    with pytest.raises(ExportError, match=r"Dense|pytorch_model"):
        take(folder)


def test_a_pooling_of_another_width_is_named(tmp_path):
    folder = tiny_model(tmp_path / "model")
    edit(folder / "1_Pooling" / "config.json", word_embedding_dimension=48)
    with pytest.raises(ExportError, match=r"says that its vectors have 48 numbers .* and they have 32"):
        take(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"modality_config": {"text": {"method": "forward", "method_output_name": "pooler_output"}}}, "pooler_output"),
        ({"modality_config": {"image": {"method": "forward", "method_output_name": "last_hidden_state"}}}, "image"),
        ({"module_output_name": "sentence_embedding"}, "module_output_name"),
        ({"transformer_task": "fill-mask"}, "the task fill-mask"),
        ({"query_length": 32}, "sets query_length"),
        ({"query_expansion": {"strategy": "fixed", "length": 32}}, "sets query_expansion"),
        ({"processing_kwargs": {"text": {"padding": "max_length"}}}, r"processing_kwargs \(text\)"),
    ],
)
def test_other_ways_through_a_transformer_are_named(tmp_path, changes, said):
    folder = tiny_model(tmp_path / "model", layout="since 5.4")
    edit(folder / "sentence_bert_config.json", **changes)
    with pytest.raises(ExportError, match=said):
        take(folder)


def test_a_bi_encoder_that_reads_through_a_chat_template_is_refused(tmp_path):
    folder = tiny_model(tmp_path / "model")
    (folder / "modules.json").unlink()
    (folder / "config_sentence_transformers.json").unlink()
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    with pytest.raises(ExportError, match="has a chat template, into which"):
        take(folder, pooling="mean")


@pytest.mark.parametrize(("labels", "activation"), [(1, "identity"), (2, "identity")])
def test_a_cross_encoder_of_one_and_of_two_labels(tmp_path, labels, activation):
    folder = tiny_model(tmp_path / "model", kind="cross-encoder")
    _relabel(folder, labels)
    taken = take(folder, "cross-encoder")
    assert taken.usage.activation == activation
    assert_equal(taken, tmp_path / "scratch")


def test_three_labels_are_refused(tmp_path):
    folder = tiny_model(tmp_path / "model", kind="cross-encoder")
    _relabel(folder, 3)
    with pytest.raises(ExportError, match="answers with 3 labels"):
        take(folder, "cross-encoder")


@pytest.mark.parametrize(
    ("changes", "activation"),
    [
        ({}, "identity"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, "sigmoid"),
        ({"sentence_transformers": None}, "sigmoid"),
        ({"sentence_transformers": None, "sbert_ce_default_activation_function": IDENTITY}, "identity"),
    ],
)
def test_an_activation_of_the_old_format(tmp_path, changes, activation):
    folder = tiny_model(tmp_path / "model", kind="cross-encoder")
    edit(folder / "config.json", **changes)
    assert take(folder, "cross-encoder").usage.activation == activation


def test_an_activation_of_the_new_format(tmp_path):
    folder = saved_cross_encoder(tmp_path / "model")
    taken = take(folder, "cross-encoder")
    assert taken.usage.activation == "identity"
    assert_equal(taken, tmp_path / "scratch")
    cross_encoder_settings(folder, activation_fn="torch.nn.modules.activation.Tanh")
    with pytest.raises(ExportError, match="ends in the activation Tanh"):
        take(folder, "cross-encoder")
    cross_encoder_settings(folder, activation_fn="mine.Swish")
    with pytest.raises(ExportError, match=r"sets activation_fn to 'mine.Swish'"):
        take(folder, "cross-encoder")


def test_code_named_as_an_old_formats_activation_is_not_dropped_in_silence(tmp_path):
    folder = tiny_model(tmp_path / "model", kind="cross-encoder")
    edit(folder / "config.json", sentence_transformers={"activation_fn": "mine.Swish"})
    with pytest.raises(ExportError, match=r"config\.json.*mine\.Swish"):
        take(folder, "cross-encoder")


def test_an_encoder_with_a_decoder_is_no_cross_encoder(tmp_path):
    config = T5Config(d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, num_labels=1, vocab_size=1100)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "model")
    tiny_model(tmp_path / "tokenizer", "xlm-roberta")
    (tmp_path / "tokenizer" / "tokenizer.json").rename(tmp_path / "model" / "tokenizer.json")
    (tmp_path / "tokenizer" / "tokenizer_config.json").rename(tmp_path / "model" / "tokenizer_config.json")
    with pytest.raises(ExportError, match="an encoder with a decoder"):
        take(tmp_path / "model", "cross-encoder")


def test_missing_weights_are_named_before_they_are_made_up(tmp_path):
    folder = tiny_model(tmp_path / "model", kind="cross-encoder")
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExportError, match=r"no fitting weights for classifier\.weight"):
        load(resolve(str(folder), "cross-encoder", revision=None, adapter=None), "cross-encoder", Wishes())


def test_weights_of_another_shape_are_named(tmp_path):
    folder = tiny_model(tmp_path / "model")
    edit(folder / "config.json", intermediate_size=48)
    with pytest.raises(ExportError, match=r"no fitting weights for encoder\.layer\.0\.intermediate\.dense"):
        take(folder)


def _relabel(folder, labels):
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(i): f"LABEL_{i}" for i in range(labels)}
    config["label2id"] = {f"LABEL_{i}": i for i in range(labels)}
    write_json(folder / "config.json", config)
    weights = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(labels)
    weights["classifier.weight"] = torch.randn(labels, HIDDEN, generator=generator)
    weights["classifier.bias"] = torch.randn(labels, generator=generator)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _assert_text_scores(taken, before, middle, tail):
    """The network's score of the joined text is the library's, and the joined text's tokens are what it reads."""
    texts = TEXTS[:4]
    with quiet():
        library = CrossEncoder(str(taken.folder), device="cpu", local_files_only=True)
        pairs = [(TEXTS[1], text) for text in texts]
        expected = library.predict(pairs, batch_size=1, activation_fn=torch.nn.Identity())
    for text, score in zip(texts, expected, strict=True):
        ids = taken.loaded.tokenizer(before + TEXTS[1] + middle + text + tail, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            found = taken.usage.network(input_ids=torch.tensor([ids]))
        assert abs(float(found[0]) - float(score)) <= 1e-4


def test_the_door_of_a_causal_model_without_modules_is_yes_and_no(tmp_path):
    """Qwen3-Reranker's own repository has no modules.json; the library then compares "yes" with "no"."""
    folder = decoder_reranker(tmp_path / "model")
    (folder / "modules.json").unlink()
    (folder / "config_sentence_transformers.json").unlink()
    (folder / "sentence_bert_config.json").unlink()
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_tokens(["yes", "no"])
        tokenizer.save_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder)
        table = model.resize_token_embeddings(len(tokenizer))
        table.weight.data[-2:] = torch.randn(2, HIDDEN, generator=torch.Generator().manual_seed(3))
        model.save_pretrained(folder)
    taken = take(folder, "cross-encoder")
    text = taken.usage.pair_text
    assert text is not None
    _assert_text_scores(taken, f"{text.head}{text.instruction}{text.neck}", text.middle, text.tail)
