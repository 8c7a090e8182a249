"""Windows of passages against slices written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine.tokens import pack
from tandem.engine.windows import SHARE, SIZE, STRIDE, Windows, window_counts


def slices(passage: list[int]) -> list[list[int]]:
    if len(passage) <= SIZE:
        return []
    last = len(passage) - SIZE
    return [passage[start : start + SIZE] for start in [*range(0, last, STRIDE), last]]


@given(st.lists(st.integers(0, 5 * SIZE), max_size=6))
def test_equal_slices_written_out(lengths: list[int]):
    passages = [list(range(1000 * place, 1000 * place + length)) for place, length in enumerate(lengths)]
    windows = Windows.of(pack(passages))
    expected = [(owner, part) for owner, passage in enumerate(passages) for part in slices(passage)]
    assert [(int(o), windows.tokens[i].tolist()) for i, o in enumerate(windows.owners)] == expected
    assert windows.tokens.ids.dtype == np.int32
    assert window_counts(np.array(lengths, dtype=np.int64)).tolist() == [len(slices(passage)) for passage in passages]


@pytest.mark.parametrize(("length", "count"), [(0, 0), (SIZE, 0), (SIZE + 1, 2), (SIZE + STRIDE, 2), (2 * SIZE, 3)])
def test_the_last_one_ends_where_its_passage_ends(length: int, count: int):
    windows = Windows.of(pack([range(length)]))
    assert len(windows.tokens) == count
    assert not count or windows.tokens[count - 1][-1] == length - 1


def test_the_best_window_moves_the_logit_towards_its_own():
    lengths = np.array([10, SIZE + STRIDE, SIZE + 1])
    windows = Windows.of(pack([range(length) for length in lengths]))
    assert windows.owners.tolist() == [1, 1, 2, 2]
    whole, logits = np.float32([3.0, 1.0, -2.0]), np.float32([-9.0, 2.5, -5.0, -8.0])
    expected = [3.0, 1.0 + SHARE * 1.5, -2.0 - SHARE * 3.0]
    assert windows.with_best(whole, logits).tolist() == pytest.approx(expected)
