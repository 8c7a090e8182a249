"""A real collection with its trained models, end to end: the same hits as on the CPU, and what a search takes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from ...engine import Engine
from .case import Case, Row, Task
from .clock import wall_ms
from .settings import Settings

QUERIES = 200
WORDS = 10
WANTED = 0.995
"""Of the top ten hits: what `checks_passed` takes for the same as on the CPU."""
NO_COLLECTION = "not run: no collection was given; --collection FOLDER measures one with its own models"


def collection(task: Task) -> Iterator[Case]:
    """Top-10 overlap with FP32 on the CPU over runs of words of the passages; latency with tokenising and texts."""
    if task.collection is None:
        yield Case({"collection": None}, lambda: [{"passed": None, "error": NO_COLLECTION}])
        return
    folder = task.collection
    # By its last part: a saved result must not tell where somebody's files lie.
    yield Case({"collection": folder.name}, lambda: _measured(task.settings, folder))


def _measured(settings: Settings, collection: Path) -> Iterator[Row]:
    ours: dict[str, Any] = {"device": "cuda"}
    if settings.dry:
        ours = {"device": "cpu", "runtime": "packed", "pipeline": "resident"}
    count = min(QUERIES, settings.repeats)
    with Engine.open(collection, **ours) as tested:
        queries = _queries(tested, count, settings.seed)
        found = [[hit.id for hit in result.hits] for result in tested.search_many(queries)]
        asked = cycle(queries)
        times = wall_ms(lambda: tested.search(next(asked), budget_ms=None), settings.repeats)
        choices, weight, lexical = tested.choices, tested.fusion.recall_weight, tested.fusion.lexical_weight
    weights: dict[str, Any] = {"recall_weight": weight, "lexical_weight": lexical}
    with Engine.open(
        collection, device="cpu", encoder_precision="fp32", reranker_precision="fp32", **weights
    ) as oracle:
        expected = [[hit.id for hit in result.hits] for result in oracle.search_many(queries)]
    overlap = float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, expected, strict=True)]))
    yield {
        "queries": count, "passed": overlap >= WANTED, "overlap@10": overlap, "wanted": WANTED,
        "same first": float(np.mean([a[0] == b[0] for a, b in zip(found, expected, strict=True)])),
        **times, "pipeline": choices["pipeline"],
    }  # fmt: skip


def _queries(engine: Engine, count: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    texts = engine.collection.texts(random.integers(0, len(engine.collection), count))
    words = [text.split() for text in texts]
    starts = [int(random.integers(0, max(1, len(some) - WORDS))) for some in words]
    return [" ".join(some[start : start + WORDS]) or "a" for some, start in zip(words, starts, strict=True)]
