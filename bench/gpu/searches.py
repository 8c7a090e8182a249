"""Latency of a lone query, throughput of many, and the memory they take."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import numpy as np

from ...engine.batcher import Batcher
from ...engine.jobs import Job
from ...engine.tokens import concatenate
from . import data
from .clock import percentiles, wall_ms
from .floors import rates
from .settings import ModelShape, Settings

Floors = list[dict[str, Any]] | None


def random_pipeline(
    shape: ModelShape, passages: int, tokens: int, settings: Settings, stored: Any = None
) -> tuple[Any, Any]:
    """A pipeline of a random pair of models of `shape` over a random store, and the store.

    `stored`: take this one, moved to the device.
    """
    import torch

    from ...engine.resident.parts import Parts
    from ...engine.resident.pipeline import Pipeline
    from ...engine.resident.store import Store
    from ...engine.runtime.bert import Bert, Shape
    from ...engine.runtime.packed import PackedRuntime
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


def latency(settings: Settings, floors: Floors) -> Iterator[dict[str, Any]]:
    """A row for each model, number of passages and length of pairs: one query at a time, ids up to rows down."""
    base, first = (settings.base_passages, settings.base_tokens), settings.models[0]
    cases = [(first, base[0], tokens) for tokens in settings.tokens]
    cases += [(first, passages, base[1]) for passages in settings.passages]
    cases += [(shape, *base) for shape in settings.models[1:]]
    for shape, passages, tokens in dict.fromkeys(cases):
        yield _latency(shape, passages, tokens, settings, floors)


def _latency(shape: ModelShape, passages: int, tokens: int, settings: Settings, floors: Floors) -> dict[str, Any]:
    reset_memory(settings)
    random = np.random.default_rng(settings.seed)
    pipeline, stored = random_pipeline(shape, passages, tokens, settings)
    asked = cycle([data.queries(1, shape, settings, random) for _ in range(64)])
    k = settings.candidates
    times = wall_ms(lambda: pipeline.search(next(asked), k, 10), settings.repeats)
    row: dict[str, Any] = {
        "model": shape.name, "passages": passages, "tokens": tokens, "candidates": k,
        **{f"{name} ms": value for name, value in times.items()},
    }  # fmt: skip
    if (measured := rates(floors)) is not None:
        arithmetic = data.flops(np.full(k, tokens), shape, first_only=True) / measured[1]
        scan = stored.vectors.numel() * stored.vectors.element_size() / measured[0]
        row["floor ms"] = 1e3 * (arithmetic + scan)
        row["times the floor"] = times["p50"] / row["floor ms"]
    return {**row, "peak GiB": peak_memory(settings)}


def throughput(settings: Settings, floors: Floors) -> Iterator[dict[str, Any]]:
    """Searches a second by offered concurrency: so many callers, each asking again as soon as it is answered."""
    from ...engine.resident.stage import Search, joined

    shape = settings.models[0]
    pipeline, _ = random_pipeline(shape, settings.base_passages, settings.base_tokens, settings)
    random = np.random.default_rng(settings.seed)
    asked = data.queries(256, shape, settings, random)
    jobs = [joined(asked.encoder[row], asked.reranker[row]) for row in range(len(asked))]
    search = Search(pipeline, settings.candidates, 10)
    for callers in settings.concurrency * 3:  # captures what batches of these sizes need, before anything is timed
        search.run(concatenate([jobs[place] for place in random.integers(0, len(jobs), callers)]))
    for callers in settings.concurrency:
        batcher = Batcher(queue_tokens=10_000_000)
        try:
            times, seconds = _offered(batcher, search, jobs, callers, settings.concurrency_seconds)
        finally:
            batcher.close()
        rate = len(times) / seconds
        row: dict[str, Any] = {
            "callers": callers, "searches/s": rate, "pairs/s": rate * settings.candidates,
            **{f"{name} ms": value for name, value in percentiles(times).items()},
        }  # fmt: skip
        if (measured := rates(floors)) is not None:
            tokens = np.full(settings.candidates, settings.base_tokens)
            row["share of matmul rate"] = rate * data.flops(tokens, shape, first_only=True) / measured[1]
        yield row


def _offered(batcher: Any, search: Any, jobs: list[Any], callers: int, seconds: float) -> tuple[list[float], float]:
    times: list[list[float]] = [[] for _ in range(callers)]
    end = time.perf_counter() + seconds

    def ask(caller: int) -> None:
        place = caller * 17
        while (start := time.perf_counter()) < end:
            batcher.submit(Job(search, jobs[place % len(jobs)], urgent=True)).result()
            times[caller].append((time.perf_counter() - start) * 1e3)
            place += 1

    threads = [threading.Thread(target=ask, args=(caller,)) for caller in range(callers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [value for own in times for value in own], time.perf_counter() - started


def reset_memory(settings: Settings) -> None:
    """Forget the peak, and let go of what earlier cases held."""
    import gc

    import torch

    gc.collect()
    if not settings.dry:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory(settings: Settings) -> float | None:
    """GiB that PyTorch held at most since `reset_memory`."""
    import torch

    return None if settings.dry else torch.cuda.max_memory_reserved() / 2**30
