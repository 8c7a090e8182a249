"""One query at a time: what each stage costs against the budget, and how rivals fare with the same weights and texts.

Every system answers every question once, in an order that changes each time, so that a slow minute of the machine hits
all of them; a ratio is the median over questions of theirs over ours. All rerank the same candidates. The floor is the
matrix products of the work that was done, at the rates this machine reaches (see `floors`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engine import Engine
from ..engine.models.artifact import Precision
from ..engine.models.cross_encoder import CrossEncoder
from ..engine.scoring.effort import EVERYTHING, FINALISTS, RerankDepth
from . import roofline
from .document import Document, Row, Table, document, grid, not_here
from .rivals import RIVALS, Rival
from .setup import Asked, Setup
from .stats import Spread, ratios, shown, significant, spread
from .turns import in_turns, ms_of
from .workloads import reads_twice, reranked_texts, said

MEASURES = (
    "one query at a time: what each stage costs against the budget, beside rivals with the same weights and texts, and "
    "the floor of the arithmetic"
)
RECALL_BUDGET_MS, TOTAL_BUDGET_MS = 20.0, 250.0
SETTLE = 0.2
"""Seconds before each measurement: threads of the system before wait by spinning for about that long."""
NAME = "ms, median (quartiles)"
COLUMNS = {"recall": "recall with encoding", "rerank": "rerank", "total": "total"}
"""Of the stages."""
TO_EXIT, SAME_PRECISION = "rerank with the exit", "rerank in the same precision"
ALL_LAYERS, EARLY_EXIT, FP32 = "tandem", "tandem, early exit", "tandem fp32"
OURS = (ALL_LAYERS, EARLY_EXIT, FP32)
"""The same work as the rivals' is what they are compared with; with the early exit a search is served; FP32 tells what
of a ratio is the engine and what is the precision."""


def latency(
    setup: Setup,
    *,
    sample: int,
    candidates: int = 100,
    plain: Engine | None = None,
    budget_ms: float = TOTAL_BUDGET_MS,
) -> Document:
    """Measure each of `sample` questions on each system, and within the budget.

    plain: the same collection with an FP32 reranker, where the engine has another; it takes turns with the others
    Raises InputError for a collection without a reranker and for an unknown rival.
    """
    engine, asked = setup.engine, setup.asked(sample, candidates)
    rates = roofline.measure(setup.threads)
    with setup.running() as (started, absent):
        systems: dict[str, Ours | Theirs] = {ALL_LAYERS: Ours(engine)}
        if reads_twice(engine, candidates):
            systems[EARLY_EXIT] = Ours(engine, RerankDepth(finalists=FINALISTS))
        if plain is not None:
            systems[FP32] = Ours(plain)
        systems.update((rival.name, Theirs(rival, engine)) for rival in started)
        stages, failed = in_turns(
            {name: partial(_answer, system, asked) for name, system in systems.items()}, len(asked.questions),
            seed=setup.seed, settle=SETTLE, progress=setup.progress, what="questions",
        )  # fmt: skip
    absent.update(failed)
    taken = {name: {stage: [one[stage] for one in each] for stage in each[0]} for name, each in stages.items()}
    within = _within_budget(engine, asked.questions, candidates, budget_ms)
    measured, compared = _summaries(taken, started)
    least = floor(engine, setup.reranker, asked, rates)
    description = setup.described(asked.questions, asked.lengths, candidates=asked.candidates)
    return document(
        "latency", MEASURES, workload=description,
        tables=_tables(description, measured, compared, least, within, rates, absent),
        rates=rates.to_dict(), floor_ms=least, systems=measured, ratios=compared, budget=within, absent=absent,
    )  # fmt: skip


class Ours:
    """This engine, without a budget: every candidate is read by all layers, or first by an early exit's."""

    def __init__(self, engine: Engine, depth: RerankDepth = EVERYTHING) -> None:
        self._engine = engine
        self._depth = depth

    def answer(self, question: str, rows: npt.NDArray[np.int64]) -> dict[str, float]:
        """Milliseconds a stage; `total` holds what is neither a model nor the index too."""
        result = self._engine.search(
            question, top_k=min(10, len(rows)), candidates=len(rows), depth=self._depth, budget_ms=None
        )
        timings = result.timings
        return {"recall": timings.encode + timings.recall, "rerank": timings.rerank, "total": timings.total}


class Theirs:
    """A rival: its encoder, a matrix product over the same vectors with a partial sort of the scores (both numpy's),
    its reranker on the texts of the same rows."""

    def __init__(self, rival: Rival, engine: Engine) -> None:
        self._rival = rival
        self._prompted = engine.encoder.prompted
        self._texts = reranked_texts(engine)
        self._vectors = np.ascontiguousarray(engine.collection.index.vectors, dtype=np.float32)

    def answer(self, question: str, rows: npt.NDArray[np.int64]) -> dict[str, float]:
        """Milliseconds a stage; no `recall` and no `total` from a rival without a bi-encoder."""
        stages = {}
        if "encode" in self._rival.spec.abilities:
            encoded = self._rival.encode([self._prompted(question, "query")])
            stages["recall"] = encoded.ms + ms_of(lambda: self._nearest(encoded.values[0], len(rows)))
        stages["rerank"] = self._rival.rerank(question, [self._texts[row] for row in rows]).ms
        if "recall" in stages:
            stages["total"] = sum(stages.values())
        return stages

    def _nearest(self, query: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
        scores = self._vectors @ query
        nearest = np.argpartition(-scores, k)[:k] if k < len(scores) else np.arange(k)
        return np.asarray(nearest[np.argsort(-scores[nearest])])

    def answer_together(self, questions: Sequence[str], rows: Sequence[npt.NDArray[np.int64]]) -> float:
        """Milliseconds of reranking all `questions` asked at once, by a rival with the ability `together`."""
        return self._rival.rerank_together(questions, [[self._texts[row] for row in some] for some in rows])


def floor(engine: Engine, reranker: CrossEncoder, asked: Asked, rates: roofline.Rates) -> dict[str, dict[str, float]]:
    """Stage → precision → the least milliseconds for a query: mean matrix products, and the vectors read once.

    EARLY_EXIT, where the reranker has one: its layers for every pair, and all layers for FINALISTS of them.
    """
    lengths = np.concatenate(asked.lengths)
    tokenizer = engine.encoder.tokenizer
    queries = tokenizer.single(tokenizer.encode_many(asked.questions)).lengths
    encode = float(roofline.model_flops(engine.encoder.artifact.manifest.size, queries, first_token=False).mean())
    read = float(np.prod(engine.collection.index.vectors.shape)) * 4 / rates.copy * 1e3
    each = roofline.model_flops(reranker.artifact.manifest.size, lengths, first_token=True)
    pairs = float(each.sum()) / len(asked.questions)
    stages = [("recall", encode, read), ("rerank", pairs, 0.0)]
    if reranker.early is not None:
        begun = roofline.model_flops(reranker.early.artifact.manifest.size, lengths, first_token=True)
        stages.append((EARLY_EXIT, float(begun.sum()) / len(asked.questions) + FINALISTS * float(each.mean()), 0.0))
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    return {
        stage: {
            precision: significant(ms + more)
            for precision in precisions if (ms := roofline.floor_ms(flops, rates, precision)) is not None
        }
        for stage, flops, more in stages
    }  # fmt: skip


def _differs(name: str) -> str:
    return f"; {RIVALS[name].differs}" if RIVALS[name].differs else ""


def _summaries(
    taken: dict[str, dict[str, list[float]]], rivals: Sequence[Rival]
) -> tuple[dict[str, Any], dict[str, dict[str, Spread]]]:
    """System → spread of each stage, with a rival's settings and versions; system → spread of the ratios to ours."""
    settings = {rival.name: {"settings": rival.spec.settings, "versions": rival.versions} for rival in rivals}
    measured = {
        name: {**settings.get(name, {}), "stages": {stage: spread(ms) for stage, ms in each.items()}}
        for name, each in taken.items()
    }
    compared = {
        name: {stage: ratios(ms, taken[ALL_LAYERS][stage]) for stage, ms in each.items()}
        for name, each in taken.items() if name != ALL_LAYERS
    }  # fmt: skip
    if EARLY_EXIT in taken:
        for name in taken.keys() - set(OURS):
            compared[name][TO_EXIT] = ratios(taken[name]["rerank"], taken[EARLY_EXIT]["rerank"])
    if FP32 in taken:
        for name in taken.keys() - set(OURS):
            alike = FP32 if RIVALS[name].precision == "fp32" else ALL_LAYERS
            compared[name][SAME_PRECISION] = ratios(taken[name]["rerank"], taken[alike]["rerank"])
    return measured, compared


def _answer(system: Ours | Theirs, asked: Asked, turn: int) -> dict[str, float]:
    return system.answer(asked.questions[max(turn, 0)], asked.rows[max(turn, 0)])


def _within_budget(engine: Engine, questions: Sequence[str], candidates: int, budget_ms: float) -> dict[str, Any]:
    results = []
    for question in questions:
        time.sleep(SETTLE)
        results.append(engine.search(question, top_k=min(10, candidates), candidates=candidates, budget_ms=budget_ms))
    return {
        "ms": budget_ms,
        "total": spread([result.timings.total for result in results]),
        "recall": spread([result.timings.encode + result.timings.recall for result in results]),
        "reranked": spread([result.reranked for result in results]),
        "degraded": sum(result.degraded is not None for result in results),
        "over": sum(result.timings.total > budget_ms for result in results),
        "recall_over": sum(result.timings.encode + result.timings.recall > RECALL_BUDGET_MS for result in results),
    }


def _tables(
    workload: dict[str, Any], measured: dict[str, Any], compared: dict[str, dict[str, Spread]],
    least: dict[str, dict[str, float]], within: dict[str, Any], rates: roofline.Rates, absent: dict[str, str],
) -> list[Table]:  # fmt: skip
    compares = {stage for each in compared.values() for stage in each}
    shares = [stage for stage in ("recall", "rerank", SAME_PRECISION, TO_EXIT) if stage in compares]
    blank: Row = dict.fromkeys([NAME, *COLUMNS.values(), *(f"× {share}" for share in shares)])
    rows = [
        {**blank, NAME: f"floor, {precision}",
         **{COLUMNS[stage]: least[stage].get(precision) for stage in ("recall", "rerank")}}
        for precision in least["rerank"]
    ]  # fmt: skip
    if EARLY_EXIT in measured:
        exits = least.get(EARLY_EXIT, {})
        rows += [{**blank, NAME: f"floor with the exit, {name}", COLUMNS["rerank"]: ms} for name, ms in exits.items()]
    rows += [
        {**blank, NAME: name, **{COLUMNS[stage]: shown(ms) for stage, ms in each["stages"].items()},
         **{f"× {share}": shown(over) for share, over in compared.get(name, {}).items() if share in shares}}
        for name, each in measured.items()
    ]  # fmt: skip
    notes = [
        said(workload) + f", {workload['candidates']} candidates; Tandem's reranker {workload['reranker']}",
        rates.note(),
        *(f"{name} takes less time than Tandem to {stage}: × {each[stage]['p50']:.2f}, the median of its ratios"
          for name, each in compared.items() for stage in ("recall", "rerank", SAME_PRECISION)
          if name not in OURS and stage in each and each[stage]["p50"] < 1),
        *([f"{EARLY_EXIT}: the first layers read every candidate, all layers the {FINALISTS} best by then; ten hits. "
           f"× {TO_EXIT} compares with it, × rerank with all layers, the same work as the rivals'"]
          if EARLY_EXIT in measured else []),
        *(f"{name}: {each['settings']}{_differs(name)}" for name, each in measured.items() if "settings" in each),
        *not_here(absent),
    ]  # fmt: skip
    budget = Table(
        f"The same questions within {within['ms']:.0f} ms",
        ["", "total", "recall", "reranked", "degraded", "over the budget", f"recall over {RECALL_BUDGET_MS:.0f} ms"],
        [["tandem", *(shown(within[key]) for key in ("total", "recall", "reranked")), within["degraded"],
          within["over"], within["recall_over"]]],
        [f"of {workload['questions']} questions; p95 {within['total']['p95']:.0f} ms"],
    )  # fmt: skip
    return [grid(f"Latency of one query: {workload['name']}", rows, notes), budget]
