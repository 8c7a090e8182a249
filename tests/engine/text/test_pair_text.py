"""A decoder's pairs joined from ids: equal to the tokenizer's ids of the whole text, blanks and signs of all kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as RustTokenizer

from tandem.engine.text.prompting import PairText, Prompting, Prompts, PromptWish
from tandem.engine.text.tokenizer import Tokenizer
from tandem.export.parity.samples import docstrings

Style = Literal["gpt2", "qwen"]
# What Qwen2 and Qwen3 split a text by before its bytes are merged.
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
# The templates of Qwen3-Reranker and of mxbai-rerank-v2, as to their signs and blanks.
CHAT = PairText(
    head="<|im_start|>system\nAnswer yes or no.<|im_end|>\n<|im_start|>user\n<Instruct>: ",
    instruction="Given a web search query, retrieve what answers it",
    neck="\n<Query>: ",
    middle="\n<Document>: ",
    tail="<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
)
PLAIN = PairText(
    head="<|endoftext|><|im_start|>user\n",
    instruction=None,
    neck="query: ",
    middle=" \ndocument: ",
    tail=" \nYou are an expert.\nRelevance:<|im_end|>\n<|im_start|>assistant\n",
)
TEMPLATES = [CHAT, PLAIN]
STYLES: tuple[Style, ...] = ("gpt2", "qwen")
BLANKS = st.sampled_from([" ", "  ", "\n", "\n\n", "\t", "\r\n"])
SIGNS = st.sampled_from(["?", "!", ".", ":", "(", '"', "'s", "-", "é", "东京", "42"])
WORDS = st.sampled_from(["the", "file", "Open", "wait", "thread", "why", "json", "_x", "a"])
texts = st.lists(st.one_of(WORDS, SIGNS, BLANKS, st.just(" ")), max_size=12).map("".join)


@pytest.fixture(scope="module", params=STYLES)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer of the style, trained on documentation; its post-processor adds an end to each text.

    The template's own signs are among the texts, so that `?\\n` and `\\n<` may become tokens.
    """
    rust = RustTokenizer(models.BPE())
    rust.normalizer = normalizers.NFC()
    rust.decoder = decoders.ByteLevel()
    if request.param == "qwen":
        rust.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(QWEN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])  # fmt: skip
    else:
        rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    questions = ["why?\n<Document>: the file.\n\n", "what is it?\n\ndocument: (a) ", '"quoted":\n'] * 50
    rust.train_from_iterator([*docstrings()[:200], *questions], trainer)
    rust.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", pair="$A $B <|endoftext|>", special_tokens=[("<|endoftext|>", 2)]
    )
    path = tmp_path_factory.mktemp(request.param) / "tokenizer.json"
    rust.save(str(path))
    return path


def rendered(template: PairText, query: str, passage: str, instruction: str | None = None) -> str:
    """The whole text of a pair."""
    said = template.instruction if instruction is None else instruction
    return template.head + (said or "") + template.neck + query + template.middle + passage + template.tail


def whole(file: Path, text: str) -> list[int]:
    """The tokenizer's ids of a whole text, special tokens as they are written in it and no others."""
    ids: list[int] = RustTokenizer.from_file(str(file)).encode(text, add_special_tokens=False).ids
    return ids


def opened(file: Path, template: PairText, max_length: int = 4096) -> Tokenizer:
    return Tokenizer(file, max_length=max_length, segments=False, prompting=Prompting("m", Prompts(), template))


@pytest.mark.parametrize("template", TEMPLATES, ids=["chat", "plain"])
@given(query=texts, passage=texts)
@example(query="why?", passage="(the file)")
@example(query="why? ", passage="  the file")
@example(query="why\n", passage="\nthe file")
@example(query="", passage="")
def test_joined_ids_are_those_of_the_whole_text(file: Path, template: PairText, query: str, passage: str):
    # A passage's last blanks and the template's first ones would be one run of blanks, which is stored with neither.
    assume(not template.tail[0].isspace() or (passage and not passage[-1].isspace()))
    ours = opened(file, template)
    pairs = ours.pairs(ours.query(query), ours.passages([passage]))
    assert pairs[0].tolist() == whole(file, rendered(template, query, passage))


@given(instruction=texts.filter(str.strip), query=texts)
def test_an_instruction_stands_in_its_place(file: Path, instruction: str, query: str):
    ours = opened(file, CHAT)
    pairs = ours.pairs(ours.query(query, PromptWish(instruction=instruction)), ours.passages(["the file"]))
    assert pairs[0].tolist() == whole(file, rendered(CHAT, query, "the file", instruction))


@given(query=texts, passage=texts, length=st.integers(8, 120))
def test_too_long_a_pair_is_cut_as_the_reference_cuts_it(file: Path, query: str, passage: str, length: int):
    """sentence-transformers cuts the whole text on the right and writes the tail over its last tokens."""
    ours = opened(file, CHAT, length + len(whole(file, CHAT.tail)))
    text, tail = whole(file, rendered(CHAT, query, passage)), whole(file, CHAT.tail)
    expected = text if len(text) <= ours.max_length else text[: ours.max_length - len(tail)] + tail
    passages = ours.passages([passage])
    pairs = ours.pairs(ours.query(query), passages)
    assert pairs[0].tolist() == expected
    assert ours.pair_lengths(ours.query(query), passages).tolist() == [len(expected)]
    assert ours.cuts_query(ours.query(query), passages) == (len(ours.query(query)) > ours.max_length - len(tail))


def test_a_left_cut_keeps_the_passages_end(file: Path):
    ours = opened(file, CHAT)
    short = opened(file, CHAT, len(ours.query("why")) + 3 + ours.pair_special)
    passages = short.passages(["the file is open and will be closed"])
    pair = short.pairs(short.query("why"), passages, "left")[0].tolist()
    assert pair == [*short.query("why"), *passages[0][-3:], *whole(file, CHAT.tail)]


def test_what_is_beside_the_words_is_counted(file: Path):
    ours = opened(file, CHAT)
    lead = ours.passages([""]).ids
    assert ours.pair_around + len(lead) == len(whole(file, rendered(CHAT, "", "")))
    assert ours.pair_special == len(whole(file, CHAT.tail))


@pytest.mark.parametrize(("signs", "joined"), [("\n", "\n"), (" ", "")], ids=["line break", "nothing"])
def test_a_template_that_ends_otherwise_before_the_passage(file: Path, signs: str, joined: str):
    """A line break stays with the sign before it, so only passages that begin with blanks may differ."""
    template = CHAT.model_copy(update={"middle": "\n<Document>:" + signs})
    assert template.lead == signs.replace("\n", "")
    ours = opened(file, template)
    for passage in ("the file", "(the file)", "42", "é"):
        pairs = ours.pairs(ours.query("why?"), ours.passages([passage]))
        assert pairs[0].tolist() == whole(file, rendered(template, "why?", passage))


def test_passages_with_blanks_at_the_end_before_a_blank_of_the_template(file: Path):
    """The one case that differs, and how much: the blanks' tokens, no word's."""
    ours = opened(file, PLAIN)
    for passage in ("the file ", "the file\n", "the file \n "):
        joined = ours.pairs(ours.query("why?"), ours.passages([passage]))[0].tolist()
        expected = whole(file, rendered(PLAIN, "why?", passage))
        words = [
            [token for token in ids if ours.decode([token], skip_special=False).strip()] for ids in (joined, expected)
        ]
        assert words[0] == words[1]
        assert np.abs(len(joined) - len(expected)) <= 2
