"""Real text from the standard library, and the queries and candidates made of it."""

from __future__ import annotations

import pytest

from tandem.export.parity.samples import CUT, LONG, docstrings, first_sentence, sample


def test_docstrings_are_many_and_different_with_some_long_ones():
    texts = docstrings()
    assert 200 <= len(texts) <= 400
    assert sum(len(text) > CUT for text in texts) >= 3
    assert max(map(len, texts)) == LONG
    assert any("argument" in text for text in texts)


def test_each_query_has_its_own_text_among_its_candidates():
    samples = sample(None, None)
    assert samples.candidates.shape == (20, 50)
    for query, rows in zip(samples.queries, samples.candidates, strict=True):
        assert query in {first_sentence(samples.texts[row]) for row in rows}


def test_fewer_texts_than_candidates_are_all_candidates():
    samples = sample(["One. Two.", "Three.", "Four.", "Four."], None)
    assert samples.queries == ("One.", "Three.", "Four.")
    assert samples.candidates.tolist() == [[0, 1, 2]] * 3


def test_the_callers_queries_are_used():
    samples = sample([f"text {i}" for i in range(100)], ["who?", "where?"], candidates=10)
    assert samples.queries == ("who?", "where?")
    assert samples.candidates.shape == (2, 10)
    assert samples.head(1, 3).candidates.shape == (1, 3)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("One two. Three.", "One two."),
        ("No stop\n\nNext.", "No stop"),
        ("Over\n  lines, v1.2 too.\nMore", "Over lines, v1.2 too."),
    ],
)
def test_first_sentence(text, sentence):
    assert first_sentence(text) == sentence
