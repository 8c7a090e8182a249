from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tandem.engine.collection.chunking import DEFAULT_TOKENS, QUERY_TOKENS, ChunkLimits, chunk, limits
from tandem.engine.collection.document import Document
from tandem.engine.collection.manifest import IndexSettings
from tandem.engine.collection.passage_text import PassageText
from tandem.engine.collection.prepare import Preparer
from tandem.engine.errors import InputError
from tandem.engine.text.tokenizer import Tokenizer

words = st.text(alphabet="abcdef.!?,;\n\t '\"()é漢", min_size=1, max_size=400)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=words, limit=st.integers(16, 60), overlap=st.integers(0, 8))
def test_chunks_cover_the_text_within_the_limit(tokenizer: Tokenizer, text: str, limit: int, overlap: int) -> None:
    spans = chunk(text, ChunkLimits(limit, overlap), tokenizer.count)
    covered = np.zeros(len(text), dtype=bool)
    for start, end in spans:
        assert start < end
        assert tokenizer.count(text[start:end]) <= limit
        covered[start:end] = True
    assert all(text[place].isspace() for place in np.flatnonzero(~covered))
    assert spans == sorted(spans)
    for before, after in pairwise(spans):
        assert before[1] <= after[1]
        if after[0] < before[1]:
            assert tokenizer.count(text[after[0] : before[1]]) <= overlap


def test_never_inside_a_sentence_and_overlapping_by_whole_ones(tokenizer: Tokenizer) -> None:
    sentences = [f"the door {n} is by the river." for n in range(40)]
    text = " ".join(sentences)
    spans = chunk(text, ChunkLimits(60, 20), tokenizer.count)
    assert len(spans) > 3
    for start, end in spans:
        assert text[start:].startswith("the door")
        assert text[end - 1] == "."
    for before, after in pairwise(spans):
        shared = text[after[0] : before[1]]
        assert re.fullmatch(r"(the door \d+ is by the river\. ?)+", shared)


def test_limits_are_what_both_models_read(tokenizer_file, tokenizer: Tokenizer) -> None:
    longer = Tokenizer(tokenizer_file, max_length=512, segments=True)
    assert limits(None, 32, tokenizer, longer) == ChunkLimits(126, 32)
    assert limits(None, 32, longer, None) == ChunkLimits(510, 32)
    assert limits(None, 32, longer, longer) == ChunkLimits(512 - 3 - QUERY_TOKENS, 32)
    assert limits(None, 32, tokenizer, longer, "the key") == ChunkLimits(124, 32)
    assert limits(0, 32, tokenizer, longer) == ChunkLimits(0, 0)
    assert limits(100, 32, longer, longer) == ChunkLimits(100, 32)
    with pytest.raises(InputError, match="leave"):
        limits(None, 0, tokenizer, Tokenizer(tokenizer_file, max_length=70, segments=True))


def test_models_that_read_much_get_passages_of_512_tokens_unless_more_are_asked_for(tokenizer_file) -> None:
    longest = Tokenizer(tokenizer_file, max_length=8192, segments=True)
    assert limits(None, 32, longest, longest) == ChunkLimits(DEFAULT_TOKENS, 32) == ChunkLimits(512, 32)
    assert limits(4000, 32, longest, longest) == ChunkLimits(4000, 32)
    assert limits(0, 32, longest, longest) == ChunkLimits(0, 0)
    with pytest.raises(InputError, match="give at most 8125"):
        limits(8126, 32, longest, longest)


def passages(tokenizer: Tokenizer, reranker: Tokenizer | None, documents: list[Document], prompt: str = "", **changes):
    settings = IndexSettings(**changes)
    text = None if reranker is None else PassageText(reranker, settings.rerank_title)
    preparer = Preparer(tokenizer, text, settings, prompt)
    return preparer, list(preparer.shards(iter(documents), 3))


LONG = Document("long", "the title", " ".join(f"the door {n} is by the river." for n in range(40)))
SHORT = Document("short", "the title", "the key.")


def test_what_fits_is_left_whole_and_the_rest_is_numbered(tokenizer: Tokenizer) -> None:
    preparer, shards = passages(tokenizer, tokenizer, [SHORT, LONG, Document("last", "", " the rain \n")])
    ids = [identity for shard in shards for identity in shard.ids]
    chunks = len(ids) - 2
    assert ids == ["short", *(f"long#{n}" for n in range(1, chunks + 1)), "last"]
    for shard in shards:
        tokens = shard.encoder_tokens()
        for place, (text, (number, start, end)) in enumerate(zip(shard.texts, shard.places, strict=True)):
            source = LONG.text if number else text
            assert source[start:end] == text
            assert tokens[place].tolist() == tokenizer.encode(f"{shard.titles[place]} {text}").tolist()
            assert len(tokens[place]) <= preparer.limits.tokens
            assert shard.tokens[0].encoder is shard.tokens[0].reranker


def test_documents_are_not_split_when_it_is_switched_off(tokenizer: Tokenizer) -> None:
    _, shards = passages(tokenizer, tokenizer, [LONG], chunk_tokens=0)
    assert shards[0].ids == ["long"]
    assert shards[0].encoder_tokens()[0].tolist() == tokenizer.encode(f"the title {LONG.text}").tolist()


def test_prompt_and_title_go_to_the_model_they_are_for(tokenizer: Tokenizer) -> None:
    preparer, shards = passages(tokenizer, tokenizer, [SHORT, LONG], "rain: ", rerank_title=False)
    arrays = [shard.arrays(preparer.token_dtype) for shard in shards]
    assert preparer.token_dtype == "uint16"
    for shard, kept in zip(shards, arrays, strict=True):
        tokens = shard.encoder_tokens()
        for place, text in enumerate(shard.texts):
            expected = tokenizer.encode(f"rain: the title {text}")
            assert tokens[place].tolist() == expected.tolist()
            assert len(expected) <= tokenizer.text_room
        plain = tokenizer.encode_many(shard.texts)
        assert kept["tokens"].tolist() == plain.ids.tolist()
        assert kept["tokens.lengths"].tolist() == plain.lengths.tolist()


def test_text_is_tokenised_once_for_two_models_that_share(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    original = tokenizer.encode_many
    monkeypatch.setattr(tokenizer, "encode_many", lambda texts: seen.extend(texts) or original(texts))
    passages(tokenizer, tokenizer, [SHORT, Document("b", "", "the lock")])
    assert seen == ["the title the key.", "the lock"]


@pytest.mark.parametrize(
    "wrong", [{"chunk_tokens": 5}, {"chunk_tokens": 20, "overlap": 11}, {"overlap": -1}, {"chunks": 3}]
)
def test_settings_that_make_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="index setting"):
        IndexSettings(**wrong)


def test_more_tokens_than_the_models_read_are_refused_not_cut(tokenizer: Tokenizer) -> None:
    room = tokenizer.text_room
    with pytest.raises(InputError, match=f"at most {room}, or 0"):
        Preparer(tokenizer, None, IndexSettings(chunk_tokens=room + 1))
    assert Preparer(tokenizer, None, IndexSettings(chunk_tokens=room)).limits.tokens == room
    with pytest.raises(InputError, match="beside a question"):
        Preparer(tokenizer, PassageText(tokenizer, titled=True), IndexSettings(chunk_tokens=room))
