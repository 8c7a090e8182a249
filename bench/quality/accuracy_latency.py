"""Accuracy against milliseconds: what more candidates, longer texts, another precision and a larger budget buy.

The cross-encoder reads the longest list of candidates once for each precision and length, and so does its early exit;
smaller counts reuse those logits, since a pair's logit does not depend on how many others were read. Budgets are really
run, one search a question and budget, and so are the times of candidate counts, on some of the questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...engine import Engine
from ...engine.build.beir import Qrels
from ...engine.collection.report import Progress
from ...engine.config import FINALISTS
from ...engine.models.artifact import Precision
from ...engine.models.cross_encoder import CrossEncoder
from ...engine.scoring.fusion import Fusion, Scored, best_of, rank
from ...engine.text.tokenizer import Tokenizer
from ..document import Document, Table, document
from ..setup import Setup
from ..stats import spread
from ..workloads import needed_reranker, pair_lengths, reads_twice, said
from .bm25 import bm25
from .evaluate import METRICS, Run, measure

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
Logits = dict[str, npt.NDArray[np.float32]]
"""Question → float32 [candidates]"""


@dataclass(frozen=True, slots=True)
class CandidateList:
    """A question's candidates: rows int64 [k], cosines and lexical scores float32 [k], documents of the rows."""

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    lexical: npt.NDArray[np.float32]
    documents: list[str]


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
    recalled, most = _recall(engine, questions, deepest), min(max(counts), deepest)
    rows: list[dict[str, Any]] = [
        {"order": "bm25", "ms": None, **_metrics(qrels, bm25(engine.collection, questions, deepest))},
        {"order": "recall", "ms": _recall_ms(engine, questions), **_metrics(qrels, _runs(recalled))},
        {"order": "evidence", "ms": None, **_metrics(qrels, _evident(recalled, engine.fusion))},
    ]
    for precision in precisions:
        reranker = CrossEncoder(setup.reranker.artifact, engine.device, precision, early_exit=True)
        reranker.warm_up()
        early = _logits(engine, reranker.early, questions, recalled, most, None, progress) if reranker.early else None
        for limit in (None, *(lengths if precision == precisions[0] else ())):
            logits = _logits(engine, reranker, questions, recalled, most, limit, progress)
            for count in sorted({min(count, deepest) for count in counts}):
                for order, fusion in (("rerank", Fusion()), ("fused", engine.fusion)):
                    run = _reordered(recalled, logits, count, fusion)
                    rows.append({
                        "order": order, "precision": precision, "tokens": limit or reranker.tokenizer.max_length,
                        "candidates": count, "ms": None, **_metrics(qrels, run),
                    })  # fmt: skip
                if early is not None and limit is None and reads_twice(engine, count):
                    run = _reordered(recalled, logits, count, engine.fusion, early)
                    rows.append({
                        "order": EXIT, "precision": precision, "tokens": reranker.tokenizer.max_length,
                        "candidates": count, "ms": None, **_metrics(qrels, run),
                    })  # fmt: skip
    _time_counts(engine, rows, list(questions.values())[:timed], counts, deepest, progress)
    budgeted = [_budget(engine, questions, qrels, budget, min(100, deepest), progress) for budget in budgets]
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


def _recall(engine: Engine, questions: dict[str, str], deepest: int) -> dict[str, CandidateList]:
    collection, tokenizer = engine.collection, needed_reranker(engine).tokenizer
    scores, rows = collection.index.search(engine.embed(list(questions.values())), deepest)
    found = {}
    for (name, question), row, score in zip(questions.items(), rows, scores, strict=True):
        lexical = collection.lexicon.scores(tokenizer.encode(question), collection.tokens(row))
        found[name] = CandidateList(row, score, lexical, collection.documents(row))
    return found


def _logits(
    engine: Engine, reranker: CrossEncoder, questions: dict[str, str], recalled: dict[str, CandidateList], most: int,
    limit: int | None, progress: Progress,
) -> Logits:  # fmt: skip
    """Of the first `most` candidates, with pairs cut to `limit` tokens as the model's own limit would cut them."""
    tokenizer = reranker.tokenizer
    if limit is not None:
        artifact = reranker.artifact
        limit = min(limit, artifact.manifest.max_length)
        tokenizer = Tokenizer(artifact.path / "tokenizer.json", max_length=limit, segments=artifact.manifest.segments)
    logits = {}
    what = f"{reranker.precision}, {tokenizer.max_length} tokens"
    for done, (name, question) in enumerate(questions.items(), start=1):
        pairs = tokenizer.pairs(tokenizer.encode(question), engine.collection.tokens(recalled[name].rows[:most]))
        logits[name] = reranker.compute_all(pairs)
        progress(done, len(questions), what)
    return logits


def _runs(recalled: dict[str, CandidateList]) -> Run:
    return {name: list(dict.fromkeys(each.documents)) for name, each in recalled.items()}


def _evident(recalled: dict[str, CandidateList], fusion: Fusion) -> Run:
    """The order of what the first stage knows: cosine and words in common."""
    run: Run = {}
    for name, each in recalled.items():
        order = np.argsort(-fusion.evidence(each.scores, each.lexical), kind="stable")
        run[name] = list(dict.fromkeys(each.documents[place] for place in order))
    return run


def _reordered(
    recalled: dict[str, CandidateList], logits: Logits, count: int, fusion: Fusion, early: Logits | None = None
) -> Run:
    """The order that a search with `count` candidates gives: the reranked first, the rest in recall's order.

    early: logits of the early exit, by which FINALISTS of the candidates are chosen; None: all layers read all
    """
    run: Run = {}
    for name, each in recalled.items():
        known, begun = np.full((2, len(each.rows)), np.nan, dtype=np.float32)
        evidence = fusion.evidence(each.scores, each.lexical)
        read = np.arange(count)
        if early is not None:
            begun[:count] = early[name][:count]
            read = best_of(begun, evidence, fusion, FINALISTS)
        known[read] = logits[name][read]
        places = rank(each.scores, evidence, Scored.of(known, begun), fusion).places
        run[name] = list(dict.fromkeys(each.documents[place] for place in places))
    return run


def _metrics(qrels: Qrels, run: Run) -> dict[str, float]:
    values = measure(qrels, run)
    return {name: round(values[name], 4) for name in METRICS}


def _recall_ms(engine: Engine, questions: dict[str, str]) -> float:
    results = [engine.search(question, top_k=10, rerank=False) for question in questions.values()]
    return spread([result.timings.total for result in results])["p50"]


def _time_counts(
    engine: Engine, rows: list[dict[str, Any]], questions: Sequence[str], counts: Sequence[int], deepest: int,
    progress: Progress,
) -> None:  # fmt: skip
    """Fill in the median milliseconds of unlimited searches with the engine's own reranker, count by count."""
    precision, tokens = needed_reranker(engine).precision, needed_reranker(engine).tokenizer.max_length
    for done, count in enumerate(sorted({min(count, deepest) for count in counts}), start=1):
        timed = [
            row
            for row in rows
            if (row.get("candidates"), row.get("precision"), row.get("tokens")) == (count, precision, tokens)
        ]
        for finalists, some in ((None, [row for row in timed if row["order"] != EXIT]),
                                (FINALISTS, [row for row in timed if row["order"] == EXIT])):  # fmt: skip
            asked = dict(top_k=min(10, count), candidates=count, finalists=finalists, budget_ms=None)
            taken = [engine.search(question, **asked).timings.total for question in questions if some]
            for row in some:
                row["ms"] = spread(taken)["p50"]
        progress(done, len(counts), "times of candidate counts")


def _budget(
    engine: Engine, questions: dict[str, str], qrels: Qrels, budget: float, candidates: int, progress: Progress
) -> dict[str, Any]:
    results = {}
    for done, (name, question) in enumerate(questions.items(), start=1):
        results[name] = engine.search(question, top_k=min(10, candidates), candidates=candidates, budget_ms=budget)
        progress(done, len(questions), f"budget of {budget:.0f} ms")
    run = {name: list(dict.fromkeys(hit.document for hit in result.hits)) for name, result in results.items()}
    return {
        "budget": budget,
        "ms": spread([result.timings.total for result in results.values()]),
        "reranked": spread([result.reranked for result in results.values()]),
        "over": sum(result.timings.total > budget for result in results.values()),
        **{metric: value for metric, value in _metrics(qrels, run).items() if metric != "recall@100"},
    }


def _tables(workload: dict[str, Any], rows: list[dict[str, Any]], budgeted: list[dict[str, Any]]) -> list[Table]:
    cells: list[list[Any]] = [
        [row["order"], row.get("precision"), row.get("tokens"), row.get("candidates"), row["ms"],
         *(f"{row[name]:.3f}" for name in SHOWN)] for row in rows
    ]  # fmt: skip
    ran: list[list[Any]] = [
        [row["budget"], row["ms"]["p50"], row["ms"]["p95"], row["reranked"]["p50"], row["over"],
         *(f"{row[name]:.3f}" for name in SHOWN_OF_TEN)] for row in budgeted
    ]  # fmt: skip
    lexical, dense, known = (row["accuracy@1"] for row in rows[:3])
    notes = [
        f"{said(workload)}; recall weight of the fused order {workload['recall_weight']:.2f}; ms: median of whole "
        f"searches ({workload['timed']} questions), only where this engine ran that precision and length",
        f"one standard error of an accuracy over {workload['questions']} questions is at most "
        f"{0.5 / workload['questions'] ** 0.5:.3f}; all orders answer the same questions",
        *(["BM25 alone puts more answers first than our recall"] if lexical > dense else []),
        *(["BM25 alone puts more answers first than recall and words in common"] if lexical > known else []),
        *(f"{row['order']} with {row['candidates']} candidates at {row['tokens']} tokens in {row['precision']} puts "
          f"fewer answers first than recall alone" for row in rows[3:] if row["accuracy@1"] < dense),
    ]  # fmt: skip
    return [
        Table(
            f"Quality: {workload['name']}", ["order", "precision", "tokens", "candidates", "ms", *SHOWN], cells, notes
        ),
        Table(
            f"Quality within a budget: {workload['name']}",
            ["budget ms", "ms, median", "p95", "reranked", "over", *SHOWN_OF_TEN], ran,
            [f"{workload['questions']} questions, each searched once a budget; {workload['reranker']}"],
        ),
    ]  # fmt: skip
