"""A filter's work on the device thread: in slices, in its client's turn, for nobody no more, and once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tandem.engine.collection.filtered_rows import FilteredRows
from tandem.engine.collection.filters import MAX_CONDITIONS, Condition, Mask, parse
from tandem.engine.errors import InferenceError
from tandem.engine.scheduling.batcher import Batcher
from tandem.engine.search.filter_stage import CONDITIONS_AT_ONCE, filter_job

SECONDS = 60


class Passages:
    """Ten passages, numbered; a condition holds of the number that it asks for. It waits until it may look."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.begun = threading.Event()
        self.looked: list[str] = []

    def __call__(self, condition: Condition) -> Mask:
        self.begun.set()
        assert self.may.wait(SECONDS)
        self.looked.append(condition.field)
        if condition.field == "broken":
            raise ValueError("there is a hole")
        return np.arange(10) == condition.values[0][1]


@pytest.fixture
def passages() -> Passages:
    return Passages()


@pytest.fixture
def collection(passages: Passages) -> Any:
    values: Any = passages
    return SimpleNamespace(filtered=FilteredRows(values))


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    made = Batcher(queue_tokens=100_000)
    yield made
    made.close()


def any_of(field: str, count: int) -> Any:
    return parse({"$or": [{field: number % 10} for number in range(count)]})


def test_a_filter_is_worked_out_and_remembered(passages: Passages, collection: Any, batcher: Batcher) -> None:
    passages.may.set()
    asked = parse({"$or": [{"a": 3}, {"a": 5}]})
    assert collection.filtered.known(asked) is None
    rows = batcher.submit(filter_job(collection, asked, "")).result(SECONDS).results[-1]
    assert rows.rows.tolist() == [3, 5]
    assert collection.filtered.known(asked) is rows


def test_others_have_their_turn_between_its_conditions(passages: Passages, collection: Any, batcher: Batcher) -> None:
    looked_before: list[int] = []
    long = batcher.submit(filter_job(collection, any_of("long", MAX_CONDITIONS), "one"))
    assert passages.begun.wait(SECONDS)
    short = batcher.submit(filter_job(collection, any_of("short", 2), "another"))
    short.add_done_callback(lambda _: looked_before.append(passages.looked.count("long")))
    passages.may.set()
    assert short.result(SECONDS).results[-1].rows.tolist() == [0, 1]
    assert long.result(SECONDS).results[-1].count == 10
    assert looked_before[0] <= 2 * CONDITIONS_AT_ONCE
    assert passages.looked.count("long") == MAX_CONDITIONS


def test_nobody_who_left_is_worked_for(passages: Passages, collection: Any, batcher: Batcher) -> None:
    asked = any_of("dropped", MAX_CONDITIONS)
    job = batcher.submit(filter_job(collection, asked, "one"))
    assert passages.begun.wait(SECONDS)
    assert job.cancel()
    passages.may.set()
    batcher.submit(filter_job(collection, any_of("next", 2), "one")).result(SECONDS)
    assert passages.looked.count("dropped") == CONDITIONS_AT_ONCE
    assert collection.filtered.known(asked) is None


def test_the_same_filter_at_once_is_worked_out_once(passages: Passages, collection: Any, batcher: Batcher) -> None:
    asked = any_of("same", MAX_CONDITIONS)
    first = batcher.submit(filter_job(collection, asked, "one"))
    assert passages.begun.wait(SECONDS)
    others = [batcher.submit(filter_job(collection, asked, "one")) for _ in range(20)]
    passages.may.set()
    rows = first.result(SECONDS).results[-1]
    assert all(other.result(SECONDS).results[-1] is rows for other in others)
    assert passages.looked.count("same") == MAX_CONDITIONS


def test_what_fails_is_the_error_of_its_request(passages: Passages, collection: Any, batcher: Batcher) -> None:
    passages.may.set()
    asked = parse({"$or": [{"a": 1}, {"broken": 2}, {"a": 3}]})
    with pytest.raises(InferenceError, match="cannot be worked out: there is a hole"):
        batcher.submit(filter_job(collection, asked, "")).result(SECONDS)
    assert batcher.submit(filter_job(collection, any_of("a", 3), "")).result(SECONDS).results[-1].count == 3
