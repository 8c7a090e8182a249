"""One query at a time: what each stage costs against the budget, and how rivals fare with the same weights and texts.

Every system answers every question once a round, in an order that changes each time, so that a slow minute of the
machine hits all of them; the result is the ratio of medians. The floor is not absolute here: it is the same cross-
encoder's arithmetic at the rate this machine reaches in a large matrix product (see `floor`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engine import Engine
from ..engine.cross_encoder import CrossEncoder
from ..engine.errors import InputError
from .document import Document, Table, document
from .rivals import RIVALS, System, Tandem

MEASURES = (
    "one query at a time: what each stage costs against the budget, beside rivals with the same weights and texts"
)
RECALL_BUDGET_MS, TOTAL_BUDGET_MS = 20.0, 250.0


def latency(
    engine: Engine,
    questions: Sequence[str],
    *,
    candidates: int = 100,
    rivals: Sequence[str] = ("sentence-transformers", "plain-onnx"),
    budget_ms: float = TOTAL_BUDGET_MS,
    seed: int = 0,
    progress: Callable[[int, int | None, str], None] = lambda done, total, what: None,
) -> Document:
    """Measure each question on each system, and with the budget; returns the document that the command prints."""
    if engine.reranker is None:
        raise InputError(f"{engine.collection.path} has no reranker, so there are no two stages to time")
    if unknown := set(rivals) - set(RIVALS):
        raise InputError(f"unknown rival {', '.join(sorted(unknown))}; there are {', '.join(RIVALS)}")
    candidates = min(candidates, len(engine.collection))
    systems = [Tandem(engine, "tandem"), *_rivals(engine, engine.reranker, rivals)]
    stages: dict[str, dict[str, list[float]]] = {system.name: {} for system in systems}
    shuffle = random.Random(seed)
    for system in systems:
        system.answer(questions[0], candidates)
    budgeted = []
    for done, question in enumerate(questions, start=1):
        for system in shuffle.sample(systems, len(systems)):
            for stage, value in system.answer(question, candidates).stages.items():
                stages[system.name].setdefault(stage, []).append(value)
        budgeted.append(engine.search(question, top_k=min(10, candidates), candidates=candidates, budget_ms=budget_ms))
        progress(done, len(questions), "questions")
    lengths = _pair_lengths(engine, engine.reranker, questions, candidates)
    medians = {
        name: {stage: float(np.median(values)) for stage, values in each.items()} for name, each in stages.items()
    }
    ours = medians[systems[0].name]
    systems_summary = {name: _summary(each) for name, each in stages.items()}
    ratios = {
        name: {stage: round(value / ours[stage], 2) for stage, value in each.items() if stage in ours}
        for name, each in medians.items()
        if name != systems[0].name
    }
    workload = {
        "collection": engine.collection.path.name,
        "passages": len(engine.collection),
        "questions": len(questions),
        "candidates": candidates,
        "pair_tokens": {"mean": round(float(lengths.mean()), 1), "p95": float(np.percentile(lengths, 95))},
        "reranker": engine.reranker.precision,
    }
    floor_ms = floor(engine.reranker, lengths, candidates)
    within = {
        "ms": budget_ms,
        "total": _percentiles([result.timings.total for result in budgeted]),
        "recall": _percentiles([result.timings.encode + result.timings.recall for result in budgeted]),
        "reranked_mean": float(np.mean([result.reranked for result in budgeted])),
        "degraded": sum(result.degraded is not None for result in budgeted),
        "over": sum(result.timings.total > budget_ms for result in budgeted),
    }
    return document(
        "latency",
        MEASURES,
        workload=workload,
        tables=[_table(systems_summary, ratios, workload, within, floor_ms)],
        fp32_floor_ms=floor_ms,
        systems=systems_summary,
        ratios=ratios,
        budget=within,
    )


def _table(
    systems: dict[str, Any], ratios: dict[str, Any], workload: dict[str, Any], budget: dict[str, Any], floor_ms: float
) -> Table:
    stages = list(next(iter(systems.values())))
    rows = []
    for name, each in systems.items():
        cells = [f"{each[stage]['p50']:.1f} ({each[stage]['p95']:.1f})" if stage in each else None for stage in stages]
        rows.append([name, *cells, f"{ratios[name]['rerank']:.1f}x rerank" if name in ratios else None])
    notes = [
        f"{workload['questions']} questions, {workload['candidates']} candidates of {workload['pair_tokens']['mean']} "
        f"tokens with the query; floor of the reranker's arithmetic in FP32 {floor_ms} ms",
        f"with a budget of {budget['ms']:.0f} ms: p50 {budget['total']['p50']:.0f}, p95 {budget['total']['p95']:.0f}, "
        f"{budget['reranked_mean']:.0f} reranked on average, {budget['over']} over the budget",
    ]
    return Table("latency of one query", ["p50 ms (p95)", *stages, "slower than tandem"], rows, notes)


def floor(reranker: CrossEncoder, lengths: npt.NDArray[np.int64], candidates: int) -> float:
    """Milliseconds of the reranker's matrix products for one query, at this machine's FP32 rate in a 1024³ product.

    FLOPs of a pair of n tokens and a BERT layer: 2n (4 d² + 2 d f) for the projections, 4 n² d for the attention. Of
    the last layer only [CLS] is needed after the attention: 2n · 2 d² there, and 4 n d. An INT8 graph may go below.
    """
    shape = reranker.artifact.architecture()
    d, f, layers = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    whole = 2 * lengths * (4 * d * d + 2 * d * f) + 4 * lengths**2 * d
    last = 2 * lengths * (2 * d * d) + 4 * lengths * d
    flops = float((whole * (layers - 1) + last).mean()) * candidates
    return float(round(flops / _matmul_rate() * 1e3, 1))


def _matmul_rate(size: int = 1024, repeats: int = 10) -> float:
    left, right = np.ones((size, size), dtype=np.float32), np.ones((size, size), dtype=np.float32)
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _rivals(engine: Engine, reranker: CrossEncoder, names: Sequence[str]) -> list[System]:
    """Each rival with the same weights, texts (titles before them where the collection has it so) and threads."""
    collection = engine.collection
    texts = collection.texts(np.arange(len(collection)))
    if collection.manifest.settings.rerank_title:
        titles = collection.titles(np.arange(len(collection)))
        texts = [f"{title} {text}" if title else text for title, text in zip(titles, texts, strict=True)]
    return [
        RIVALS[name](engine.encoder.artifact, reranker.artifact, collection.index.vectors, texts, engine.device.threads)
        for name in names
    ]


def _pair_lengths(
    engine: Engine, reranker: CrossEncoder, questions: Sequence[str], candidates: int
) -> npt.NDArray[np.int64]:
    lengths = []
    for question in questions:
        found = engine.search(question, top_k=candidates, candidates=candidates, rerank=False)
        rows = [engine.collection.row_of(hit.id) for hit in found.hits]
        tokenizer = reranker.tokenizer
        lengths.append(tokenizer.pairs(tokenizer.encode(question), engine.collection.tokens(np.array(rows))).lengths)
    return np.concatenate(lengths)


def _summary(stages: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    return {stage: _percentiles(values) for stage, values in stages.items()}


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return dict(zip(("p50", "p95", "p99"), np.percentile(values, (50, 95, 99)).round(2).tolist(), strict=True))
