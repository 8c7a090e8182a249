"""Windows against windows written out, a lexicon against counting by hand, and the lexical score of both parts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine.scoring.lexical import HALF, WINDOW, Lexicon, lexical_scores
from tandem.engine.text.tokens import pack

VOCABULARY = 12
texts = st.lists(st.integers(0, VOCABULARY - 1), max_size=20)
long_texts = st.lists(st.integers(0, VOCABULARY - 1) | st.just(0), max_size=90)


def slow_window(query: list[int], passage: list[int], corpus: list[list[int]]) -> float:
    rarity = {}
    for term in set(query):
        holding = sum(term in other for other in corpus)
        rarity[term] = math.log(1.0 + (len(corpus) - holding + 0.5) / (holding + 0.5))
    windows = [set(passage[start : start + WINDOW]) for start in range(0, max(len(passage), 1), HALF)]
    densest = max(sum(rarity[term] for term in window & set(query)) for window in windows)
    best = sum(rarity.values())
    return densest / best if best else 0.0


@given(texts, st.lists(long_texts, min_size=1, max_size=8))
def test_equals_windows_written_out(query: list[int], corpus: list[list[int]]) -> None:
    passages = pack(corpus)
    scores = Lexicon.of(passages, VOCABULARY).windows(np.array(query, dtype=np.int32), passages)
    assert scores.dtype == np.float32
    assert scores.tolist() == pytest.approx([slow_window(query, text, corpus) for text in corpus], abs=1e-6)
    assert ((scores >= 0) & (scores <= 1 + 1e-6)).all()


def test_rare_words_count_more_and_absent_ones_not_at_all() -> None:
    corpus = pack([[1, 2], [1, 3], [1, 4], [1, 5]])
    lexicon = Lexicon.of(corpus, VOCABULARY)
    common, rare = lexicon.windows(np.array([1, 2], dtype=np.int32), pack([[1, 9], [2, 9]]))
    assert rare > common > 0
    assert lexicon.windows(np.array([7], dtype=np.int32), corpus).tolist() == [0.0] * 4


def test_words_that_stand_together_count_more_than_the_same_ones_apart() -> None:
    filler = [0] * 90
    together, apart = [*filler, 1, 2, 3], [1, *filler[:45], 2, *filler[45:], 3]
    lexicon = Lexicon.of(pack([together, apart, [0]]), VOCABULARY)
    near, far, across = lexicon.windows(
        np.array([1, 2, 3], dtype=np.int32),
        pack([together, apart, [*filler[: WINDOW - 2], 1, 2, 3, *filler[WINDOW - 2 :]]]),
    )
    assert near == pytest.approx(across)
    assert near - far == pytest.approx(2 / 3)


def test_windows_end_with_their_passage() -> None:
    lexicon = Lexicon.of(pack([[1], [2], [0]]), VOCABULARY)
    query = np.array([1, 2], dtype=np.int32)
    ends, begins = lexicon.windows(query, pack([[0] * 10 + [1], [2] + [0] * 10]))
    alone = lexicon.windows(query, pack([[0] * 10 + [1]]))[0]
    assert ends == begins == alone


def test_frequencies_are_passages_not_occurrences() -> None:
    lexicon = Lexicon.of(pack([[1, 1, 2], [], [1]]), 4)
    assert lexicon.frequencies.tolist() == [0, 2, 1, 0]
    assert lexicon.passages == 3


def test_what_is_not_known_does_not_count() -> None:
    words, windows = np.float32([0.5, 0.0]), np.float32([0.1, 1.0])
    np.testing.assert_allclose(lexical_scores(words, windows), [0.3, 0.5], rtol=1e-6)
    assert lexical_scores(None, windows) is windows
