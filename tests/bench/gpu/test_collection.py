"""A real collection with its trained models, end to end: the same hits as on the CPU, and what a search takes.

Run by `tandem bench gpu --collection FOLDER`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tandem.bench.gpu.checks import PLUGIN
from tandem.bench.stats import percentiles
from tandem.bench.turns import in_turns, ms_of
from tandem.engine import Engine
from tandem.engine.scoring.effort import EVERYTHING

from .judging import Record, judge

QUERIES, WORDS = 200, 10
ALLOWED = 0.005
"""Of the top ten hits, the share that may be others than on the CPU."""
SECONDS = 12.0


def runs_of_words(engine: Engine, count: int, seed: int) -> list[str]:
    """Parts of random passages: what real texts ask for."""
    random = np.random.default_rng(seed)
    words = [text.split() for text in engine.collection.texts(random.integers(0, len(engine.collection), count))]
    starts = [int(random.integers(0, max(1, len(some) - WORDS))) for some in words]
    return [" ".join(some[start : start + WORDS]) or "a" for some, start in zip(words, starts, strict=True)]


@pytest.mark.parametrize(
    "options",
    [
        {"device": "cpu", "runtime": "packed", "pipeline": "resident"},
        pytest.param({"device": "cuda"}, marks=pytest.mark.gpu),
    ],
    ids=["cpu", "cuda"],
)
def test_hits_are_those_of_fp32_on_the_cpu(
    request: pytest.FixtureRequest, options: dict[str, Any], record_property: Record
):
    run = request.config.pluginmanager.get_plugin(PLUGIN)
    if run is None or run.task.collection is None:
        pytest.skip("no collection was given; --collection FOLDER measures one with its own models")
    folder, settings = run.task.collection, run.task.settings
    with Engine.open(folder, **options) as tested:
        queries = runs_of_words(tested, min(QUERIES, settings.repeats), settings.seed)
        found = [[hit.id for hit in result.hits] for result in tested.search_many(queries)]

        def ask(turn: int) -> float:
            return ms_of(lambda: tested.search(queries[turn % len(queries)], budget_ms=None))

        taken, _ = in_turns({"tandem": ask}, settings.repeats, warm_up=10, seconds=SECONDS)
        pipeline, fusion = tested.choices["pipeline"], tested.fusion
    weights: dict[str, Any] = {"recall_weight": fusion.recall_weight, "lexical_weight": fusion.lexical_weight}
    with Engine.open(folder, device="cpu", encoder_precision="fp32", reranker_precision="fp32", **weights) as oracle:
        # The resident pipeline reads every candidate, whatever the effort.
        searched = [oracle.search(query, budget_ms=None, depth=EVERYTHING) for query in queries]
    expected = [[hit.id for hit in result.hits] for result in searched]
    overlap = float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, expected, strict=True)]))
    record_property("queries", len(queries))
    record_property("overlap@10", overlap)
    record_property("same first", float(np.mean([a[0] == b[0] for a, b in zip(found, expected, strict=True)])))
    for column, value in {**percentiles(taken["tandem"]), "pipeline": pipeline}.items():
        record_property(column, value)
    judge(record_property, 1 - overlap, ALLOWED, "share of hits that differ")
