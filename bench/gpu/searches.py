"""Latency of a lone query, throughput of many, and the memory they take."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np

from ...engine.scheduling.batcher import Batcher
from ...engine.scheduling.job import Job
from ...engine.text.tokens import concatenate
from ..document import said
from . import data
from .cases import Case, Row, Task, Turn
from .clock import percentiles, wall_ms
from .floors import rates
from .memory import let_go
from .settings import ModelShape, Settings

QUERIES_EACH = 64
"""Of a caller: others' are different, since the batcher scores queries that wait together and are the same once."""


def random_pipeline(
    shape: ModelShape, passages: int, tokens: int, settings: Settings, stored: Any = None
) -> tuple[Any, Any]:
    """A pipeline of a random pair of models of `shape` over a random store, and the store.

    `stored`: take this one, moved to the device.
    """
    import torch

    from ...engine.gpu_search.buffers import Parts
    from ...engine.gpu_search.device_store import Store
    from ...engine.gpu_search.pipeline import Pipeline
    from ...engine.models.runtime.bert import Bert, Shape
    from ...engine.models.runtime.packed import PackedRuntime
    from ...kernels.pack import PairForm, TokenRows
    from .models import MAX_LENGTH, weights

    device = settings.device
    dtype = torch.float32 if settings.dry else torch.float16
    if stored is None:
        stored = data.store(passages, tokens, shape, settings)
    else:
        rows = TokenRows(stored.tokens.ids.to(device), stored.tokens.offsets.to(device))
        stored = Store(stored.vectors.to(device, dtype), rows, stored.lengths)
    sizes = Shape(shape.layers, shape.heads, shape.width, shape.wide, 1e-12)
    models = []
    for kind, head in (("bi-encoder", "mean"), ("cross-encoder", "logit")):
        tensors = weights(shape, kind, torch.Generator().manual_seed(settings.seed))  # type: ignore[arg-type]
        models.append(PackedRuntime(Bert(tensors, sizes, head, dtype, device)))  # type: ignore[arg-type]
    encoder, reranker = models
    parts = Parts(
        encoder=encoder.bert, reranker=reranker.bert, store=stored, normalize=True, weight=1.0, lexical_weight=0.5,
        form=PairForm.of(data.Template(), MAX_LENGTH, device), encoder_buffers=encoder.buffers,
        reranker_buffers=reranker.buffers,
    )  # fmt: skip
    return Pipeline(parts), stored


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
        if turn == task.turn:
            about = {"model": shape.name, "passages": passages, "tokens": tokens, "candidates": settings.candidates}
            yield Case(about, partial(_latency, shape, passages, tokens, task))


def _latency(shape: ModelShape, passages: int, tokens: int, task: Task) -> Iterator[Row]:
    settings = task.settings
    let_go(settings)
    random = np.random.default_rng(settings.seed)
    pipeline, stored = random_pipeline(shape, passages, tokens, settings)
    asked = cycle([data.queries(1, shape, settings, random) for _ in range(64)])
    k = settings.candidates
    row: Row = {**wall_ms(lambda: pipeline.search(next(asked), k, 10), settings.searches)}
    if (measured := rates(task.floors)) is not None:
        arithmetic = data.flops(np.full(k, tokens), shape, first_only=True) / measured[1]
        scan = stored.vectors.numel() * stored.vectors.element_size() / measured[0]
        row["floor ms"] = 1e3 * (arithmetic + scan)
        row["times the floor"] = row["p50 ms"] / row["floor ms"]
    yield row


def throughput(task: Task) -> Iterator[Case]:
    """Searches a second by offered concurrency: so many callers, each asking again as soon as it is answered."""
    from ...engine.gpu_search.search_model import GpuSearch, joined

    settings, most = task.settings, max(task.settings.concurrency)
    let_go(settings)
    shape = settings.models[0]
    pipeline, _ = random_pipeline(shape, settings.base_passages, settings.base_tokens, settings)
    asked = data.queries(most * QUERIES_EACH, shape, settings, np.random.default_rng(settings.seed))
    jobs = [joined(asked.encoder[row], asked.reranker[row]) for row in range(len(asked))]
    search = GpuSearch(pipeline, settings.candidates, 10)
    for start in (0, most):  # twice, since lengths differ: what batches of any size need is captured before the clock
        for size in range(most, 0, -1):
            search.run(concatenate(jobs[start : start + size]))
    for callers in settings.concurrency:
        yield Case({"callers": callers}, partial(_throughput, search, jobs, callers, task))


def _throughput(search: Any, jobs: list[Any], callers: int, task: Task) -> Iterator[Row]:
    settings = task.settings
    batcher = Batcher(queue_tokens=10_000_000)
    try:
        times, seconds, errors = offered(batcher, search, jobs, callers, settings.concurrency_seconds)
    finally:
        batcher.close()
    if not times:
        raise errors[0]
    rate = len(times) / seconds
    row: Row = {"searches/s": rate, "pairs/s": rate * settings.candidates, **percentiles(times)}
    if (measured := rates(task.floors)) is not None:
        tokens = np.full(settings.candidates, settings.base_tokens)
        work = data.flops(tokens, settings.models[0], first_only=True)
        row["share of matmul rate"] = rate * work / measured[1]
    if errors:
        row["error"] = f"{len(errors)} of {callers} callers ended early: {said(errors[0])}"
    yield row


def offered(
    batcher: Any, search: Any, jobs: list[Any], callers: int, seconds: float
) -> tuple[list[float], float, list[Exception]]:
    """Milliseconds of each answer to `callers` who ask queries of their own, the seconds that took, and what ended a
    caller before the others."""
    times: list[list[float]] = [[] for _ in range(callers)]
    errors: list[Exception] = []
    each = len(jobs) // callers
    end = time.perf_counter() + seconds

    def ask(caller: int) -> None:
        own = cycle(jobs[caller * each : (caller + 1) * each])
        try:
            while (start := time.perf_counter()) < end:
                (result,) = batcher.submit(Job(search, next(own), urgent=True)).result().results
                if isinstance(result, Exception) or result is None:
                    raise result or ValueError("a search gave no answer")
                times[caller].append((time.perf_counter() - start) * 1e3)
        except Exception as error:  # of a thread, where nobody would see it
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(caller,)) for caller in range(callers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [value for own in times for value in own], time.perf_counter() - started, errors
