"""Accuracy against milliseconds: what more candidates, longer texts, another precision and a larger budget buy.

The cross-encoder reads the longest list of candidates once for each precision and length, and so does its early exit;
smaller counts reuse those logits, since a pair's logit does not depend on how many others were read. Budgets are really
run, one search a question and budget, and so are the times of candidate counts, on some of the questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ...engine import Engine, SearchResult
from ...engine.build.beir import Qrels
from ...engine.collection.report import Progress
from ...engine.models.artifact import Precision
from ...engine.models.cross_encoder import CrossEncoder
from ...engine.scoring.effort import FINALISTS, RerankDepth
from ...engine.scoring.fusion import Fusion
from ..document import Document, Table, document, grid
from ..setup import Setup
from ..stats import spread
from ..turns import in_turns
from ..workloads import needed_reranker, pair_lengths, reads_twice, said
from .bm25 import bm25
from .evaluate import DENSE, METRICS, Run, by_vectors, measure
from .replay import Logits, after_exit, candidate_lists, in_evidences_order, in_recalls_order, read_logits, reranked

MEASURES = (
    "accuracy of recall, reranking and their fusion against the milliseconds they cost: candidate counts, truncation "
    "lengths, precisions, budgets, and BM25 as the lexical baseline"
)
SEED_POINTS = ((20.0, 0.85), (250.0, 0.93))
"""The project's promise, without a rank named: accuracy within recall's budget, and within the whole one."""
SHOWN = ("accuracy@1", "accuracy@3", "accuracy@5", "accuracy@10", "nDCG@10", "recall@100")
SHOWN_OF_TEN = SHOWN[:-1]
"""Of searches that give ten hits."""
EXIT = "early exit"
"""The fused order of the candidates that go on from the reranker's early exit."""


def accuracy_latency(
    setup: Setup,
    *,
    sample: int,
    counts: Sequence[int] = (10, 20, 50, 100, 200),
    budgets: Sequence[float] = (20, 50, 100, 150, 200, 250),
    precisions: Sequence[Precision] = ("int8",),
    lengths: Sequence[int] = (),
    timed: int = 10,
) -> Document:
    """Measure `sample` questions drawn with the seed.

    counts: candidates to rerank; precisions: of the cross-encoder, the first also at each of `lengths` (tokens a pair);
    budgets: milliseconds a search may take; timed: questions that the counts' times are measured on.
    """
    engine, workload, progress = setup.engine, setup.workload, setup.progress
    names = workload.question_ids(sample, setup.seed)
    questions = {name: workload.judged.queries[name] for name in names}
    qrels = {name: workload.judged.qrels[name] for name in names}
    deepest = min(max(*counts, 100), len(engine.collection))
    recalled, most = candidate_lists(engine, questions, deepest), min(max(counts), deepest)
    rows: list[dict[str, Any]] = [
        {"order": "bm25", "ms": None, **_metrics(qrels, bm25(engine.collection, questions, deepest))},
        {"order": DENSE, "ms": None, **_metrics(qrels, by_vectors(engine, questions, deepest))},
        {"order": "recall", "ms": _recall_ms(engine, questions), **_metrics(qrels, in_recalls_order(recalled))},
        {"order": "evidence", "ms": None, **_metrics(qrels, in_evidences_order(recalled, engine.fusion))},
    ]
    for precision in precisions:
        reranker = CrossEncoder(setup.reranker.artifact, engine.device, precision, early_exit=True)
        reranker.warm_up()
        early = None
        if reranker.early is not None:
            early = read_logits(engine, reranker.early, questions, recalled, most, None, progress)
            early = after_exit(engine, recalled, early)
        for limit in (None, *(lengths if precision == precisions[0] else ())):
            logits = read_logits(engine, reranker, questions, recalled, most, limit, progress)
            for count in sorted({min(count, deepest) for count in counts}):
                orders: dict[str, tuple[Fusion, Logits | None]] = {
                    "rerank": (Fusion(), None), "fused": (engine.fusion, None),
                }  # fmt: skip
                if early is not None and limit is None and reads_twice(engine, count):
                    orders[EXIT] = (engine.fusion, early)
                tokens = limit or reranker.tokenizer.max_length
                rows += [
                    {"order": order, "precision": precision, "tokens": tokens, "candidates": count, "ms": None,
                     **_metrics(qrels, reranked(recalled, logits, count, *way))} for order, way in orders.items()
                ]  # fmt: skip
    _time_counts(engine, rows, list(questions.values())[:timed], progress)
    budgeted = _budgets(engine, questions, qrels, budgets, min(100, deepest), progress)
    pairs = pair_lengths(
        engine, setup.reranker, list(questions.values()), [each.rows[:100] for each in recalled.values()]
    )
    description = setup.described(
        list(questions.values()), pairs, timed=timed, recall_weight=engine.fusion.recall_weight
    )
    return document(
        "quality", MEASURES, workload=description, tables=_tables(description, rows, budgeted), orders=rows,
        budgets=budgeted, promise=[{"ms": ms, "accuracy": value} for ms, value in SEED_POINTS],
    )  # fmt: skip


def _metrics(qrels: Qrels, run: Run) -> dict[str, float]:
    values = measure(qrels, run)
    return {name: round(values[name], 4) for name in METRICS}


def _recall_ms(engine: Engine, questions: dict[str, str]) -> float:
    results = [engine.search(question, top_k=10, rerank=False) for question in questions.values()]
    return spread([result.timings.total for result in results])["p50"]


def _search(engine: Engine, questions: Sequence[str], count: int, turn: int, **options: Any) -> SearchResult:
    return engine.search(questions[max(turn, 0)], top_k=min(10, count), candidates=count, **options)


def _time_counts(engine: Engine, rows: list[dict[str, Any]], questions: Sequence[str], progress: Progress) -> None:
    """Fill in the median milliseconds of unlimited searches, where rows are of the engine's own reranker."""
    own = needed_reranker(engine).precision, needed_reranker(engine).tokenizer.max_length
    timed = [row for row in rows if (row.get("precision"), row.get("tokens")) == own]
    kinds = [(row["candidates"], RerankDepth(finalists=FINALISTS if row["order"] == EXIT else None)) for row in timed]
    taken, _ = in_turns(
        {kind: partial(_search, engine, questions, kind[0], depth=kind[1], budget_ms=None) for kind in kinds},
        len(questions), progress=progress, what="times of candidate counts",
    )  # fmt: skip
    for row, kind in zip(timed, kinds, strict=True):
        row["ms"] = spread([result.timings.total for result in taken[kind]])["p50"]


def _budgets(
    engine: Engine, questions: dict[str, str], qrels: Qrels, budgets: Sequence[float], candidates: int,
    progress: Progress,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row a budget: every question is searched within it."""
    asked = list(questions.values())
    taken, _ = in_turns(
        {budget: partial(_search, engine, asked, candidates, budget_ms=budget) for budget in budgets}, len(asked),
        progress=progress, what="budgets",
    )  # fmt: skip
    return [_budgeted(qrels, budget, dict(zip(questions, taken[budget], strict=True))) for budget in budgets]


def _budgeted(qrels: Qrels, budget: float, results: dict[str, SearchResult]) -> dict[str, Any]:
    run = {name: list(dict.fromkeys(hit.document for hit in result.hits)) for name, result in results.items()}
    return {
        "budget": budget,
        "ms": spread([result.timings.total for result in results.values()]),
        "reranked": spread([result.reranked for result in results.values()]),
        "over": sum(result.timings.total > budget for result in results.values()),
        **{metric: value for metric, value in _metrics(qrels, run).items() if metric != "recall@100"},
    }


def _tables(workload: dict[str, Any], rows: list[dict[str, Any]], budgeted: list[dict[str, Any]]) -> list[Table]:
    cells = [
        {**{column: row.get(column) for column in ("order", "precision", "tokens", "candidates", "ms")},
         **{name: f"{row[name]:.3f}" for name in SHOWN}} for row in rows
    ]  # fmt: skip
    ran = [
        {"budget ms": row["budget"], "ms, median": row["ms"]["p50"], "p95": row["ms"]["p95"],
         "reranked": row["reranked"]["p50"], "over": row["over"],
         **{name: f"{row[name]:.3f}" for name in SHOWN_OF_TEN}} for row in budgeted
    ]  # fmt: skip
    named = {row["order"]: row["accuracy@1"] for row in rows[:4]}
    lexical, dense, known = named["bm25"], named["recall"], named["evidence"]
    notes = [
        f"{said(workload)}; recall weight of the fused order {workload['recall_weight']:.2f}; ms: median of whole "
        f"searches ({workload['timed']} questions), only where this engine ran that precision and length",
        f"one standard error of an accuracy over {workload['questions']} questions is at most "
        f"{0.5 / workload['questions'] ** 0.5:.3f}; all orders answer the same questions",
        *(["BM25 alone puts more answers first than our recall"] if lexical > dense else []),
        *(["BM25 alone puts more answers first than recall and words in common"] if lexical > known else []),
        *(f"{row['order']} with {row['candidates']} candidates at {row['tokens']} tokens in {row['precision']} puts "
          f"fewer answers first than recall alone" for row in rows[4:] if row["accuracy@1"] < dense),
    ]  # fmt: skip
    asked = f"{workload['questions']} questions, each searched once a budget; {workload['reranker']}"
    return [
        grid(f"Quality: {workload['name']}", cells, notes),
        grid(f"Quality within a budget: {workload['name']}", ran, [asked]),
    ]
