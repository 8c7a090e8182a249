"""The lexical score against BM25 written out, and a lexicon against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine.lexical import K1, B, Lexicon
from tandem.engine.tokens import pack

VOCABULARY = 12
texts = st.lists(st.integers(0, VOCABULARY - 1), max_size=20)


def slow_score(query: list[int], passage: list[int], corpus: list[list[int]]) -> float:
    mean = sum(map(len, corpus)) / len(corpus)
    score = best = 0.0
    for term in set(query):
        holding = sum(term in other for other in corpus)
        rarity = math.log(1.0 + (len(corpus) - holding + 0.5) / (holding + 0.5))
        count = passage.count(term)
        norm = K1 * (1.0 - B + B * len(passage) / max(mean, 1.0))
        score += rarity * count * (K1 + 1.0) / (count + norm)
        best += rarity * (K1 + 1.0)
    return score / best if best else 0.0


@given(texts, st.lists(texts, min_size=1, max_size=8))
def test_equals_bm25_written_out(query: list[int], corpus: list[list[int]]) -> None:
    passages = pack(corpus)
    scores = Lexicon.of(passages, VOCABULARY).scores(np.array(query, dtype=np.int32), passages)
    assert scores.dtype == np.float32
    assert scores.tolist() == pytest.approx([slow_score(query, text, corpus) for text in corpus], abs=1e-6)
    assert ((scores >= 0) & (scores < 1)).all()


def test_rare_words_count_more_and_absent_ones_not_at_all() -> None:
    corpus = pack([[1, 2], [1, 3], [1, 4], [1, 5]])
    lexicon = Lexicon.of(corpus, VOCABULARY)
    common, rare = lexicon.scores(np.array([1, 2], dtype=np.int32), pack([[1, 9], [2, 9]]))
    assert rare > common > 0
    assert lexicon.scores(np.array([7], dtype=np.int32), corpus).tolist() == [0.0] * 4


def test_frequencies_are_passages_not_occurrences() -> None:
    lexicon = Lexicon.of(pack([[1, 1, 2], [], [1]]), 4)
    assert lexicon.frequencies.tolist() == [0, 2, 1, 0]
    assert (lexicon.passages, lexicon.mean_length) == (3, pytest.approx(4 / 3))
