from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine.models.runtime.buckets import Bucket, Buckets


@given(st.lists(st.integers(1, 512), max_size=300), st.integers(512, 20_000))
def test_every_row_runs_once_in_a_shape_that_holds_it(lengths: list[int], tokens: int):
    buckets = Buckets(512, tokens)
    array = np.array(lengths, dtype=np.int64)
    runs = buckets.assign(array)
    assert sorted(row for rows, _ in runs for row in rows.tolist()) == list(range(len(lengths)))
    known = set(buckets.largest_first())
    for rows, bucket in runs:
        assert bucket in known
        assert 1 <= len(rows) <= bucket.batch
        assert array[rows].max() <= bucket.length


def test_the_most_memory_comes_first_and_no_shape_exceeds_the_budget():
    shapes = Buckets(512, 16_384).largest_first()
    tokens = [shape.tokens for shape in shapes]
    assert tokens == sorted(tokens, reverse=True)
    assert max(tokens) <= 16_384
    assert len(set(shapes)) == len(shapes)


def test_lengths_end_at_the_models_limit():
    assert Buckets(100, 4096).lengths == [16, 24, 32, 48, 64, 96, 100]
    assert Buckets(512, 4096).lengths == [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]
    assert Buckets(10, 4096).lengths == [10]


@given(st.integers(1, 40_000))
def test_lengths_are_at_most_half_apart_up_to_the_models_limit(most: int):
    """So that a sequence is padded by a third of what is computed at most."""
    lengths = Buckets(most, 16_384).lengths
    assert lengths[-1] == most
    assert all(before < after <= 1.5 * before for before, after in pairwise(lengths))


def test_a_long_sequence_does_not_run_at_the_models_limit():
    buckets = Buckets(8192, 16_384)
    runs = buckets.assign(np.array([600, 1500, 6000, 8192]))
    assert [bucket.length for _, bucket in runs] == [8192, 6144, 1536, 768]
    assert all(bucket.batch == 1 for _, bucket in runs)
    assert max(bucket.tokens for bucket in buckets.largest_first()) == 16_384


def test_a_rest_takes_shorter_rows_along():
    """Three rows of the longest bucket take a batch of four, whose free place goes to the next shorter row."""
    runs = Buckets(512, 4096).assign(np.array([500, 20, 510, 505, 20]))
    assert [(rows.tolist(), bucket) for rows, bucket in runs] == [
        ([2, 3, 0, 1], Bucket(512, 4)),
        ([4], Bucket(24, 1)),
    ]
