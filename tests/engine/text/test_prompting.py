"""Which prompt a request gets: by name, as text, by an instruction; and what is refused, in words."""

from __future__ import annotations

import pytest

from tandem.engine.errors import InputError
from tandem.engine.text.prompting import LONGEST_PROMPT, PairText, Prompting, Prompts, PromptWish, search_wishes

E5 = Prompting("e5", Prompts(query="query: ", passage="passage: "))
NOMIC = Prompting(
    "nomic",
    Prompts(query="search_query: ", passage="search_document: ", named={"clustering": "clustering: ", "query": "old"}),
)
QWEN = Prompting("qwen", Prompts(query="Instruct: find\nQuery:", instructed="Instruct: {instruction}\nQuery:"))
PLAIN = Prompting("minilm")
DECODER = Prompting(
    "qwen-reranker",
    Prompts(named={"code": "find code"}),
    PairText(head="<I>", instruction="find", neck="<Q> ", middle="\n<D> ", tail="<end>"),
)
FIXED = Prompting("mxbai", pair_text=PairText(head="", instruction=None, neck="q: ", middle="\nd:", tail="\n"))


@pytest.mark.parametrize(
    ("model", "name", "before"),
    [
        (E5, None, ""), (E5, "query", "query: "), (E5, "passage", "passage: "), (E5, "document", "passage: "),
        (E5, "search_query", "query: "), (E5, "retrieval.passage", "passage: "), (E5, "clustering", ""),
        (NOMIC, "clustering", "clustering: "),  # the model's own goes before what clients mean by it
        (NOMIC, "query", "old"),  # its own by that name, as sentence-transformers has it
        (PLAIN, "document", ""),
    ],
)  # fmt: skip
def test_a_prompt_by_its_name(model: Prompting, name: str | None, before: str):
    assert model.before_text(PromptWish(name)) == before


def test_a_name_that_no_one_has_is_refused_with_those_there_are():
    with pytest.raises(InputError, match="nomic has no prompt of that name; known are query, passage, clustering"):
        NOMIC.before_text(PromptWish("sts"))
    with pytest.raises(InputError, match=r"known are query$"):
        PLAIN.query("why", PromptWish("passage"))  # a cross-encoder puts nothing before a passage
    with pytest.raises(InputError, match=r"known are code$"):
        DECODER.query("why", PromptWish("sts"))


def test_a_free_prompt_stands_in_place_of_the_models_own():
    assert E5.before_text(PromptWish(text="ask: ")) == "ask: "
    assert E5.before_text(PromptWish(text="")) == ""
    assert Prompting("ce", Prompts(query="search: ")).query("why") == "search: why"
    assert Prompting("ce", Prompts(query="search: ")).query("why", PromptWish(text="")) == "why"
    assert Prompting("ce", Prompts(query="search: ")).query("why", PromptWish(text="a ")) == "a why"


def test_an_instruction_stands_where_the_model_wants_it():
    asked = PromptWish(instruction="find {code}")
    assert QWEN.before_text(asked) == "Instruct: find {code}\nQuery:"
    assert QWEN.before_text(PromptWish("query", instruction="x")) == "Instruct: x\nQuery:"
    assert DECODER.query("why", asked) == "<I>find {code}<Q> why\n<D>"
    assert DECODER.lead == " "


@pytest.mark.parametrize(
    ("model", "wish", "said"),
    [
        (E5, PromptWish(instruction="x"), "e5 takes no instruction"),
        (QWEN, PromptWish("passage", instruction="x"), "an instruction is for queries"),
        (QWEN, PromptWish(text="x", instruction="x"), "give prompt or instruction"),
        (DECODER, PromptWish(text="x", instruction="x"), "give prompt or instruction"),
        (DECODER, PromptWish("code", instruction="x"), "give prompt_name or instruction"),
        (FIXED, PromptWish(instruction="x"), "mxbai takes no instruction and no prompt"),
        (FIXED, PromptWish(text="x"), "mxbai takes no instruction and no prompt"),
    ],
)
def test_what_a_model_does_not_take_is_refused(model: Prompting, wish: PromptWish, said: str):
    read = model.before_text if model.pair_text is None else lambda wish: model.query("why", wish)
    with pytest.raises(InputError, match=said):
        read(wish)


def test_a_prompt_of_a_decoder_is_its_instruction_as_in_sentence_transformers():
    own = DECODER.query("why")
    assert own == DECODER.query("why", PromptWish("query")) == "<I>find<Q> why\n<D>"
    assert DECODER.query("why", PromptWish("code")) == DECODER.query("why", PromptWish(text="find code"))
    assert FIXED.query("why", PromptWish("query")) == "q: why\nd:"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "a", "text": "b"}, "give prompt or prompt_name"),
        ({"text": "x" * (LONGEST_PROMPT + 1)}, f"prompt has {LONGEST_PROMPT + 1} characters"),
        ({"instruction": " "}, "instruction is empty"),
        ({"name": ""}, "prompt_name is empty"),
        ({"name": 3}, "prompt_name must be text, not int"),
        ({"text": "\ud800"}, "prompt is not valid Unicode at character 0"),
    ],
)
def test_a_wish_that_is_none(values: dict[str, object], said: str):
    with pytest.raises(InputError, match=said):
        PromptWish(**values)  # type: ignore[arg-type]


def test_a_searchs_instruction_goes_to_each_model_that_takes_one():
    asked = PromptWish(instruction="x")
    assert search_wishes(asked, QWEN, DECODER) == (asked, asked)
    assert search_wishes(asked, E5, DECODER) == (PromptWish("query"), asked)
    assert search_wishes(asked, QWEN, PLAIN) == (asked, PromptWish())
    with pytest.raises(InputError, match="not for e5 and minilm"):
        search_wishes(asked, E5, PLAIN)
    with pytest.raises(InputError, match="not for e5;"):
        search_wishes(asked, E5, None)


def test_a_searchs_prompt_is_the_bi_encoders():
    assert search_wishes(PromptWish(), E5, DECODER) == (PromptWish("query"), PromptWish())
    assert search_wishes(PromptWish(text="a"), E5, DECODER) == (PromptWish(text="a"), PromptWish())
    both = PromptWish(text="a", instruction="x")
    assert search_wishes(both, E5, DECODER) == (PromptWish(text="a"), PromptWish(instruction="x"))
