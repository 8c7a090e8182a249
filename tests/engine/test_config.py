from __future__ import annotations

import pytest

from tandem.engine.config import EngineSettings, SearchSettings
from tandem.engine.errors import InputError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_k": 0}, "top_k"),
        ({"top_k": 20, "candidates": 10}, "top_k 20 exceeds candidates 10"),
        ({"candidates": 5000}, "candidates"),
        ({"budget_ms": 0}, "budget_ms"),
        ({"budget_ms": -5}, "budget_ms"),
        ({"budget_ms": float("nan")}, "budget_ms"),
        ({"budget_ms": float("inf")}, "budget_ms"),
        ({"top_k": "10"}, "top_k"),
        ({"topk": 10}, "known settings: top_k"),
    ],
)
def test_a_bad_search_setting_is_named(settings: dict, message: str):
    with pytest.raises(InputError, match=message):
        SearchSettings(**settings)


def test_unknown_engine_settings_are_errors():
    with pytest.raises(InputError, match="batch_size"):
        EngineSettings(batch_size=3)


def test_whole_numbers_and_none_are_budgets():
    assert SearchSettings(budget_ms=20).budget_ms == 20.0
    assert SearchSettings(budget_ms=None).budget_ms is None


def test_candidates_are_as_many_as_are_returned_where_they_are_left_out():
    assert (SearchSettings().recalled, SearchSettings(top_k=200).recalled) == (100, 200)
    assert SearchSettings(top_k=5, candidates=7).recalled == 7
    with pytest.raises(InputError, match="top_k 200 exceeds candidates 100"):
        SearchSettings(top_k=200, candidates=100)
