"""Prompts of both kinds of model, as encode_query, encode_document and predict use them."""

from __future__ import annotations

import pytest

from tandem.engine.errors import ExportError
from tandem.engine.text.prompting import Prompting, Prompts, PromptWish
from tandem.export.source.card_prompts import card_prompts

from ...tiny import LAYOUTS, tiny_model, write_json
from .repositories import edit, saved_cross_encoder
from .taken import assert_equal, take

SETTINGS = "config_sentence_transformers.json"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_query_and_a_document_have_their_prompts(tmp_path, layout):
    prompts = {"query": "find: ", "document": "text: ", "Clustering": "sort: "}
    taken = take(tiny_model(tmp_path / "model", prompts=prompts, layout=layout))
    assert taken.usage.prompts == Prompts(query="find: ", passage="text: ", named=prompts)
    assert_equal(taken, tmp_path / "scratch")
    assert taken.lines == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prompts": {"query": "q: ", "passage": "p: "}}, "--passage-prompt 'p: '"),
        ({"prompts": {"all": "x: "}, "default_prompt_name": "all"}, "--query-prompt 'x: '"),
        ({"prompts": {"query": None, "document": None}, "default_prompt_name": None}, None),
    ],
)
def test_what_the_library_does_not_use_is_not_used_and_told(tmp_path, settings, said):
    """sentence-transformers 6 has an empty prompt `document` of its own, which wins over `passage` and the default."""
    write_json(tiny_model(tmp_path / "model") / SETTINGS, settings)
    taken = take(tmp_path / "model")
    assert_equal(taken, tmp_path / "scratch")
    assert (said is None) == (taken.lines == [])
    assert said is None or any(said in line for line in taken.lines)


def test_a_cross_encoders_default_prompt_stands_before_the_query(tmp_path):
    prompts = {"web": "Rank for web search: ", "code": "Rank code: "}
    taken = take(saved_cross_encoder(tmp_path / "model", prompts=prompts, default_prompt_name="web"), "cross-encoder")
    assert taken.usage.prompts == Prompts(query="Rank for web search: ", named=prompts)
    assert_equal(taken, tmp_path / "scratch")


def test_wishes_win(tmp_path):
    folder = tiny_model(tmp_path / "model", prompts={"query": "find: ", "document": "text: "})
    taken = take(folder, query_prompt="", passage_prompt="p: ")
    assert (taken.usage.prompts.query, taken.usage.prompts.passage) == ("", "p: ")
    assert taken.usage.prompts.named == {}, "by these names a request gets what was wished for"


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"passage_prompt": "p: "}, "leave --passage-prompt out"),
        ({"pooling": "mean"}, "leave --pooling out"),
        ({"dimensions": 8}, "leave --dimensions out"),
    ],
)
def test_what_a_cross_encoder_has_no_use_for_is_refused(tmp_path, wishes, said):
    folder = tiny_model(tmp_path / "model", kind="cross-encoder")
    assert take(folder, "cross-encoder", query_prompt="q: ").usage.prompts == Prompts(query="q: ")
    with pytest.raises(ExportError, match=said):
        take(folder, "cross-encoder", **wishes)


def test_prompts_of_a_card(tmp_path):
    taken = take(tiny_model(tmp_path / "multilingual-e5-small"))
    assert (taken.usage.prompts.query, taken.usage.prompts.passage) == ("query: ", "passage: ")
    (line,) = taken.lines
    assert "model's card" in line
    own = take(tiny_model(tmp_path / "e5-base", prompts={"query": "mine: "}))
    assert own.usage.prompts.query == "mine: "
    assert own.lines == []


@pytest.mark.parametrize(
    ("name", "query"),
    [("intfloat/e5-large-v2", "query: "), ("x/bge-small-en-v1.5-mine", None), ("BAAI/bge-m3", None), ("e5", None)],
)
def test_a_card_is_found_by_the_whole_end_of_a_name(name, query):
    found = card_prompts(name)
    assert (found and found.query) == query


def test_an_instruction_can_be_given_by_a_request(tmp_path):
    prompt = "Instruct: Given a web search query, retrieve relevant passages\nQuery:"
    taken = take(tiny_model(tmp_path / "model", prompts={"query": prompt, "document": ""}))
    assert taken.usage.prompts.instructed == "Instruct: {instruction}\nQuery:"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prompts": ["query: "]}, r"sets prompts to \['query: '\]; it must be an object of texts by name"),
        ({"prompts": {"query": 5}}, "it must be an object of texts by name"),
        ({"prompts": {"a": "x"}, "default_prompt_name": "b"}, "default_prompt_name 'b', but prompts has only 'a'"),
        ({"prompts": {}, "default_prompt_name": 3}, "sets default_prompt_name to 3"),
        ({"default_prompt": "x"}, "sets default_prompt, which is not known here"),
    ],
)
def test_prompts_that_cannot_be_read_are_named(tmp_path, settings, said):
    write_json(tiny_model(tmp_path / "model") / SETTINGS, settings)
    with pytest.raises(ExportError, match=said):
        take(tmp_path / "model")


def test_a_prompt_that_the_pooling_leaves_out(tmp_path):
    folder = tiny_model(tmp_path / "model")
    edit(folder / "1_Pooling" / "config.json", include_prompt=False)
    with pytest.raises(ExportError, match="include_prompt: false"):
        take(folder)


def test_each_of_the_models_prompts_is_what_a_request_gets_by_its_name(tmp_path):
    folder = tiny_model(tmp_path / "model")
    write_json(folder / SETTINGS, {"prompts": {"query": "q: ", "passage": "p: ", "other": "o: "}})
    taken = take(folder)
    prompting = Prompting("model", taken.usage.prompts)
    for name, text in taken.loaded.library.prompts.items():
        assert prompting.before_text(PromptWish(name)) == text
    wished = take(folder, query_prompt="Q: ", passage_prompt="P: ")
    prompting = Prompting("model", wished.usage.prompts)
    assert [prompting.before_text(PromptWish(name)) for name in ("query", "passage", "document", "other")] == [
        "Q: ", "P: ", "P: ", "o: ",
    ]  # fmt: skip
