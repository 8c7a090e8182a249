"""Several rerankers on one collection: the same questions, the same candidates, one table.

Recall is done once a question, by the first engine; each reranker then orders what it found, in an engine of its own,
one after the other, so that only one is in memory at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...engine import Engine, SearchResult
from ...engine.build.beir import Judged
from ...engine.collection.report import Progress, silent
from ...engine.errors import InputError
from ...engine.models.artifact import Artifact
from ...engine.recall.nearest import Recalled
from .evaluate import Quality, evaluate, sampled

ORDERS = ("rerank", "fused")
"""The orders of each reranker that are compared, which come from the same searches."""
Open = Callable[[Path], AbstractContextManager[Engine]]
Found = Callable[[str, SearchResult], None]


@dataclass(frozen=True, slots=True)
class Compared:
    """One order: its reranker (None: recall's own), its metrics and the median ms of a search that gives it."""

    reranker: str | None
    order: str
    metrics: dict[str, float]
    p50_ms: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """`qualities`: reranker → what `evaluate` measured of it; `recall_ms`: median of the recalls that they share."""

    qualities: dict[str, Quality]
    recall_ms: float

    @property
    def rows(self) -> list[Compared]:
        """Recall, then each reranker's orders."""
        first = next(iter(self.qualities.values()))
        rows = [Compared(None, "recall", first.metrics["recall"], self.recall_ms)]
        for name, quality in self.qualities.items():
            taken = quality.latency["total"]["p50"]
            rows += [Compared(name, order, quality.metrics[order], taken) for order in ORDERS]
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return {
            "rows": [
                {"reranker": row.reranker, "order": row.order, **row.metrics, "p50_ms": row.p50_ms} for row in self.rows
            ],
            "rerankers": {name: quality.to_dict() for name, quality in self.qualities.items()},
        }


def compare(
    rerankers: Mapping[str, Path],
    opened: Open,
    judged: Judged,
    *,
    candidates: int,
    sample: int | None = None,
    seed: int = 0,
    found: Callable[[str], Found | None] = lambda name: None,
    then: Callable[[Engine, Quality, str], None] = lambda engine, quality, name: None,
    progress: Progress = silent,
    **asked: Any,
) -> Comparison:
    """Evaluate each of the `rerankers` (name → artifact) on the candidates that recall gives once.

    opened: the engine with an artifact; `asked`: other settings of `evaluate`
    found: what is told of a reranker's searches, by its name; then: told its quality and name while its engine is open
    Raises what `opened` and `evaluate` raise.
    """
    qualities: dict[str, Quality] = {}
    recalled: dict[str, Recalled] = {}
    seconds: list[float] = []
    for name, path in rerankers.items():
        with opened(path) as engine:
            for done, question in enumerate(sampled(judged, sample, seed) if not recalled else (), start=1):
                began = time.perf_counter()
                recalled[question] = engine.recall(judged.queries[question], top_k=1, candidates=candidates)
                seconds.append(time.perf_counter() - began)
                progress(done, None, "recall")
            qualities[name] = evaluate(
                engine, judged, candidates=candidates, sample=sample, seed=seed, found=found(name), recalled=recalled,
                progress=lambda done, total, what, name=name: progress(done, total, f"{name}: {what}"), **asked,
            )  # fmt: skip
            then(engine, qualities[name], name)
    return Comparison(qualities, round(1e3 * float(np.median(seconds)), 3))


def named(rerankers: Iterable[Path]) -> dict[str, Path]:
    """What to call each artifact: its model's name, and its folder's where two have the same.

    Raises ArtifactError, also for what is no cross-encoder, and InputError when one is given twice.
    """
    paths = list(rerankers)
    names = [Artifact.open(path, kind="cross-encoder").manifest.name for path in paths]
    found: dict[str, Path] = {}
    for name, path in zip(names, paths, strict=True):
        label = name if names.count(name) == 1 else str(path)
        if label in found:
            raise InputError(f"--reranker {path} is given twice; a comparison takes each once")
        found[label] = path
    return found
