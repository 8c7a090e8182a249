from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine.errors import InferenceError
from tandem.engine.models.artifact import ModelSize
from tandem.engine.models.runtime.activations import SHARE, Activations

GIB = 2**30
LARGE = ModelSize(layers=24, heads=16, width=1024, wide=4096)


def test_a_long_pair_of_a_large_model_takes_less_than_3_gib():
    """8,192 tokens of XLM-R large, linear in the length; in full, each matrix of scores takes 4 GiB."""
    linear, full = (Activations.of(LARGE, in_full=full) for full in (False, True))
    assert 0.5 * GIB < linear.nbytes(8192) < GIB
    assert linear.nbytes(8192) == 2 * linear.nbytes(4096)
    assert full.nbytes(8192) - linear.nbytes(8192) == 20 * GIB


@given(st.integers(1, 64), st.integers(1, 40_000), st.integers(0, 64 * GIB), st.booleans())
def test_runs_fit_into_the_share_of_what_is_free_and_one_always_goes_on(lanes, tokens, free, full):
    activations = Activations.of(LARGE, in_full=full)
    needed = activations.nbytes(tokens)
    if needed > free:
        with pytest.raises(InferenceError, match=r"a sequence of \d+ tokens takes .* GiB .* free; give shorter texts"):
            activations.at_once(tokens, lanes, free)
        return
    count = activations.at_once(tokens, lanes, free)
    assert 1 <= count <= lanes
    assert count == 1 or count * needed <= SHARE * free
    assert count == lanes or (count + 1) * needed > SHARE * free  # or one more would have fitted


def test_where_the_system_does_not_say_every_lane_runs():
    assert Activations.of(LARGE, in_full=True).at_once(8192, 16, None) == 16
