"""Queries a second when many ask at once, with every candidate reranked.

Tandem is asked by N threads and shares micro-batches between them; rivals are libraries, asked one question after the
other: their rate is 1 over their mean time, and they could do no better. One whose batches hold several requests' pairs
is also asked several at once, with the time of their recall, one after the other, added. The floor is the reranker's
matrix products at the measured rate.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..engine import Engine
from ..engine.config import FINALISTS
from . import roofline
from .document import Document, Table, document
from .latency import ALL_LAYERS, EARLY_EXIT, Theirs, floor
from .rivals import Unavailable
from .setup import Setup
from .stats import shown, spread
from .workloads import reads_twice, said

MEASURES = (
    "queries a second with many callers at once and every candidate reranked: what batching across requests is worth"
)
CALLERS = (1, 4, 16)
NO_ENCODER = "it has no bi-encoder, so there is no query to answer"
Round = tuple[float, list[float]]
"""Seconds until all questions were answered, and the milliseconds each waited."""


def throughput(
    setup: Setup, *, sample: int, candidates: int = 100, callers: Sequence[int] = CALLERS, repeats: int = 3
) -> Document:
    """`repeats` rounds; in each, every number of callers asks all of `sample` questions, then every rival does.

    More callers than questions ask as many as they are, each another: who asks what is being answered gets it for free.
    """
    engine, asked = setup.engine, setup.asked(sample, candidates)
    questions, rows = asked.questions, asked.rows
    many = setup.workload.questions(max(sample, *callers), setup.seed)
    rates = roofline.measure(setup.threads)
    rounds: dict[str, list[Round]] = {}
    with setup.running() as (started, absent):
        theirs = {rival.name: Theirs(rival, engine) for rival in started if "encode" in rival.spec.abilities}
        sharing = {rival.name for rival in started if "together" in rival.spec.abilities}
        absent.update({rival.name: NO_ENCODER for rival in started if rival.name not in theirs})
        ways = {ALL_LAYERS: None, **({EARLY_EXIT: FINALISTS} if reads_twice(engine, candidates) else {})}
        engine.search(questions[0], top_k=1, candidates=asked.candidates, budget_ms=None)
        _warm_up(theirs, questions[0], rows[0], absent)
        for turn in range(repeats):
            for count in callers:
                for name, finalists in ways.items():
                    took = _ask(engine, many[: max(sample, count)], asked.candidates, finalists, count)
                    rounds.setdefault(f"{name}, {count} at once", []).append(took)
            for name, system in theirs.items():
                if name not in absent:
                    at_once = f"{name}, {len(questions)} at once"
                    try:
                        alone = _one_by_one(system, questions, rows)
                        rounds.setdefault(name, []).append((sum(alone["total"]) / 1e3, alone["total"]))
                        if name in sharing:
                            rounds.setdefault(at_once, []).append(_together(system, questions, rows, alone["recall"]))
                    except Unavailable as reason:
                        absent[name] = str(reason)
                        rounds.pop(at_once, None)
            setup.progress(turn + 1, repeats, "rounds")
    least = floor(engine, setup.reranker, asked, rates)["rerank"]
    tokens = sum(int(each.sum()) for each in asked.lengths) / len(questions)
    systems = {
        name: {"per_second": spread([len(ms) / seconds for seconds, ms in each]),
               "ms": spread([one for _, ms in each for one in ms])}
        for name, each in rounds.items() if name not in absent
    }  # fmt: skip
    description = setup.described(questions, asked.lengths, candidates=asked.candidates, repeats=repeats)
    return document(
        "throughput", MEASURES, workload=description,
        tables=[_table(description, systems, least, tokens, rates, absent)],
        rates=rates.to_dict(), floor_ms=least, tokens_per_query=tokens, systems=systems, absent=absent,
    )  # fmt: skip


def _warm_up(systems: dict[str, Theirs], question: str, rows: Any, absent: dict[str, str]) -> None:
    """One question each that is not counted: what a first call allocates is not what a query takes."""
    for name, system in systems.items():
        try:
            system.answer(question, rows)
        except Unavailable as reason:
            absent[name] = str(reason)


def _one_by_one(system: Theirs, questions: Sequence[str], rows: Sequence[Any]) -> dict[str, list[float]]:
    """Milliseconds a question, stage by stage."""
    answers = [system.answer(question, some) for question, some in zip(questions, rows, strict=True)]
    return {stage: [answer[stage] for answer in answers] for stage in answers[0]}


def _together(system: Theirs, questions: Sequence[str], rows: Sequence[Any], recall: Sequence[float]) -> Round:
    """All questions at once: `recall` (ms) is what finding their candidates took, one after the other."""
    taken = sum(recall) + system.answer_together(questions, rows)
    return taken / 1e3, [taken] * len(questions)


def _ask(engine: Engine, questions: Sequence[str], candidates: int, finalists: int | None, callers: int) -> Round:

    def one(question: str) -> float:
        result = engine.search(
            question, top_k=min(10, candidates), candidates=candidates, finalists=finalists, budget_ms=None
        )
        return result.timings.total

    start = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        latencies = list(pool.map(one, questions))
    return time.perf_counter() - start, latencies


def _table(
    workload: dict[str, Any],
    systems: dict[str, Any],
    least: dict[str, float],
    tokens: float,
    rates: roofline.Rates,
    absent: dict[str, str],
) -> Table:
    rows: list[list[Any]] = [
        [f"floor of the reranker, {name}", f"{1e3 / ms:.2f}", None, round(1e3 / ms * tokens)]
        for name, ms in least.items()
    ]
    for name, each in systems.items():
        # Pairs that an exit drops are not computed by all layers: a rate of tokens would compare unlike work.
        pairs = None if name.startswith(EARLY_EXIT) else round(each["per_second"]["p50"] * tokens)
        rows.append([name, shown(each["per_second"]), shown(each["ms"]), pairs])
    best = max(
        (
            each["per_second"]["p50"]
            for name, each in systems.items()
            if name.startswith(ALL_LAYERS) and not name.startswith(EARLY_EXIT)
        ),
        default=0.0,
    )
    notes = [
        f"{said(workload)}, {workload['candidates']} candidates, {workload['repeats']} rounds; {workload['reranker']}",
        rates.note(),
        *(f"{name} answers more queries a second than Tandem with all layers" for name, each in systems.items()
          if not name.startswith("tandem") and each["per_second"]["p50"] > best),
        *(f"{name} is not here: {reason}" for name, reason in absent.items()),
    ]  # fmt: skip
    columns = ["median (quartiles)", "queries a second", "ms a query", "pair tokens a second"]
    return Table(f"Throughput: {workload['name']}", columns, rows, notes)
