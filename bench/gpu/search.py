"""Latency of a lone query, and throughput of many."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import cycle, takewhile
from typing import TYPE_CHECKING

import numpy as np

from ...engine import EngineError
from ...engine.scheduling.batcher import Batcher
from ...engine.scheduling.job import Job
from ...engine.text.tokens import TokenBatch, concatenate
from .. import roofline
from ..document import Row, said
from ..stats import percentiles
from ..turns import at_once, in_turns, ms_of
from .device import let_go
from .plan import Case, Task, Turn

if TYPE_CHECKING:
    from ...engine.gpu_search.search_model import GpuSearch
    from ..random_models.workload import RandomWorkload

SECONDS = 12.0
"""Of one number at most: the slow ones are left at what they have by then."""
WARM_UP = 10
LONE_QUERIES = 64
QUERIES_EACH = 64
"""Of a caller: queries that wait together are different, since the batcher scores once what is the same."""


def latency(task: Task) -> Iterator[Case]:
    """A row for each model, number of passages and length of pairs: one query at a time, ids up to rows down."""
    settings = task.settings
    base, small = (settings.base_passages, settings.base_tokens), settings.models[0]
    cases = [(small, *base)]
    cases += [(small, base[0], tokens) for tokens in settings.tokens]
    cases += [(small, passages, base[1]) for passages in settings.passages]
    cases += [(shape, *base) for shape in settings.models[1:]]
    for place, (shape, passages, tokens) in enumerate(dict.fromkeys(cases)):
        turn: Turn = "first" if place == 0 else "last" if shape in settings.models[2:] else "then"
        about = {"model": shape.name, "passages": passages, "tokens": tokens, "candidates": settings.candidates}
        yield Case(about, partial(_latency, settings.workload(shape, passages, tokens), task), turn)


def _latency(workload: RandomWorkload, task: Task) -> Iterator[Row]:
    let_go(task.settings)
    k, pipeline, queries = task.settings.candidates, workload.pipeline(), workload.queries(LONE_QUERIES)
    lone = [queries.select(np.array([row])) for row in range(LONE_QUERIES)]

    def ask(turn: int) -> float:
        return ms_of(lambda: pipeline.search(lone[turn % LONE_QUERIES], k, 10))

    taken, _ = in_turns({"tandem": ask}, task.settings.searches, warm_up=WARM_UP, seconds=SECONDS)
    row = percentiles(taken["tandem"])
    vectors = pipeline.parts.store.vectors
    if task.rates is not None and vectors is not None:
        arithmetic = roofline.floor_ms(_flops(workload, k), task.rates, "fp16") or 0.0
        row["floor ms"] = arithmetic + vectors.nbytes / task.rates.copy * 1e3
        row["times the floor"] = row["p50 ms"] / row["floor ms"]
    yield row


def _flops(workload: RandomWorkload, candidates: int) -> float:
    """Of reading so many candidates."""
    lengths = np.full(candidates, workload.tokens)
    return float(roofline.model_flops(workload.shape.sizes, lengths, first_token=True).sum())


def throughput(task: Task) -> Iterator[Case]:
    """Searches a second by offered concurrency: so many callers, each asking again as soon as it is answered."""
    from ...engine.gpu_search.search_model import GpuSearch, joined

    settings, most = task.settings, max(task.settings.concurrency)
    let_go(settings)
    workload = settings.workload(settings.models[0], settings.base_passages, settings.base_tokens)
    asked = workload.queries(most * QUERIES_EACH)
    jobs = [joined(asked.encoder[row], asked.reranker[row], asked.reranker[row]) for row in range(len(asked))]
    search = GpuSearch(workload.pipeline(), settings.candidates, 10)
    for start in (0, most):  # twice, since lengths differ: what batches of any size need is captured before the clock
        for size in range(most, 0, -1):
            search.run(concatenate(jobs[start : start + size]))
    for callers in settings.concurrency:
        yield Case({"callers": callers}, partial(_throughput, search, jobs, callers, workload, task))


def _throughput(
    search: GpuSearch, jobs: list[TokenBatch], callers: int, workload: RandomWorkload, task: Task
) -> Iterator[Row]:
    k, end = task.settings.candidates, time.perf_counter() + task.settings.concurrency_seconds
    work = takewhile(lambda _: time.perf_counter() < end, cycle(jobs))
    with closing(Batcher(queue_tokens=10_000_000)) as batcher:
        seconds, times, errors = at_once(partial(_answered, batcher, search), work, callers)
    if not times:
        raise errors[0]
    rate = len(times) / seconds
    row = {"searches/s": rate, "pairs/s": rate * k, **percentiles(times)}
    if task.rates is not None:
        row["share of matmul rate"] = rate * (roofline.floor_ms(_flops(workload, k), task.rates, "fp16") or 0.0) / 1e3
    if errors:
        row["error"] = f"{len(errors)} of {callers} callers ended early: {said(errors[0])}"
    yield row


def _answered(batcher: Batcher, search: GpuSearch, job: TokenBatch) -> float:
    """Milliseconds of one query's answer."""
    start = time.perf_counter()
    (result,) = batcher.submit(Job(search, job, urgent=True)).result().results
    if isinstance(result, Exception) or result is None:
        raise result or EngineError("a search gave no answer")
    return (time.perf_counter() - start) * 1e3
