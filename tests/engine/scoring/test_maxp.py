"""Windows of passages against slices written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine.scoring.maxp import SHARE, SIZE, STRIDE, Windows, window_counts, window_pair
from tandem.engine.text.tokens import pack

MOST = 4 * SIZE
"""Tokens that a model reads."""


def slices(passage: list[int]) -> list[list[int]]:
    passage = passage[:MOST]
    if len(passage) <= SIZE:
        return []
    last = len(passage) - SIZE
    return [passage[start : start + SIZE] for start in [*range(0, last, STRIDE), last]]


@given(st.lists(st.integers(0, 5 * SIZE), max_size=6))
def test_equal_slices_written_out(lengths: list[int]):
    passages = [list(range(1000 * place, 1000 * place + length)) for place, length in enumerate(lengths)]
    windows = Windows.of(pack(passages), MOST)
    expected = [(owner, part) for owner, passage in enumerate(passages) for part in slices(passage)]
    assert [(int(o), windows.tokens[i].tolist()) for i, o in enumerate(windows.owners)] == expected
    assert windows.tokens.ids.dtype == np.int32
    assert window_counts(np.array(lengths, dtype=np.int64), MOST).tolist() == [
        len(slices(passage)) for passage in passages
    ]


@pytest.mark.parametrize(("length", "count"), [(0, 0), (SIZE, 0), (SIZE + 1, 2), (SIZE + STRIDE, 2), (2 * SIZE, 3)])
def test_the_last_one_ends_where_its_passage_ends(length: int, count: int):
    windows = Windows.of(pack([range(length)]), MOST)
    assert len(windows.tokens) == count
    assert not count or windows.tokens[count - 1][-1] == length - 1


def test_the_best_window_moves_the_logit_towards_its_own():
    lengths = np.array([10, SIZE + STRIDE, SIZE + 1])
    windows = Windows.of(pack([range(length) for length in lengths]), MOST)
    assert windows.owners.tolist() == [1, 1, 2, 2]
    whole, logits = np.float32([3.0, 1.0, -2.0]), np.float32([-9.0, 2.5, -5.0, -8.0])
    expected = [3.0, 1.0 + SHARE * 1.5, -2.0 - SHARE * 3.0]
    assert windows.with_best(whole, logits).tolist() == pytest.approx(expected)
    assert windows.with_best(whole[:2], logits[:2]).tolist() == pytest.approx(expected[:2])


def test_a_passage_is_complete_with_all_of_its_windows():
    windows = Windows.of(pack([range(2 * SIZE), range(10), range(SIZE + 1), range(10)]), MOST)
    assert windows.owners.tolist() == [0, 0, 0, 2, 2]
    assert [windows.complete(4, count) for count in range(6)] == [0, 0, 0, 2, 2, 4]
    assert [windows.of_first(count) for count in range(5)] == [0, 3, 3, 5, 5]


def test_a_pair_has_no_more_tokens_than_are_read():
    assert window_pair(10, 3, MOST) == SIZE + 13
    assert window_pair(MOST, 3, MOST) == MOST
