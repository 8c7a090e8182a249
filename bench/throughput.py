"""Queries a second when many ask at once, with every candidate reranked.

Tandem is asked by N threads and shares micro-batches between them; rivals are libraries, asked one question after the
other: their rate is 1 over their mean time, and they could do no better. One whose batches hold several requests' pairs
is also asked several at once, with the time of their recall, one after the other, added. The floor is the reranker's
matrix products at the measured rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..engine import Engine
from ..engine.scoring.effort import EVERYTHING, FINALISTS, RerankDepth
from . import roofline
from .document import Document, Row, Table, document, grid, not_here
from .latency import ALL_LAYERS, EARLY_EXIT, Theirs, floor
from .rivals import Spec
from .setup import Asked, Setup
from .stats import shown, spread
from .turns import at_once, in_turns
from .workloads import reads_twice, said

MEASURES = (
    "queries a second with many callers at once and every candidate reranked: what batching across requests is worth"
)
CALLERS = (1, 4, 16)
NO_ENCODER = "it has no bi-encoder, so there is no query to answer"
Rounds = dict[str, tuple[float, list[float]]]
"""What a contestant's name is followed by → seconds until all questions were answered, the milliseconds each waited."""


def throughput(
    setup: Setup, *, sample: int, candidates: int = 100, callers: Sequence[int] = CALLERS, repeats: int = 3
) -> Document:
    """`repeats` rounds; in each, every number of callers asks all of `sample` questions, then every rival does.

    More callers than questions ask as many as they are, each another: who asks what is being answered gets it for free.
    """
    engine, asked = setup.engine, setup.asked(sample, candidates)
    many = setup.workload.questions(max(sample, *callers), setup.seed)
    rates = roofline.measure(setup.threads)
    ways = {ALL_LAYERS: EVERYTHING}
    if reads_twice(engine, candidates):
        ways[EARLY_EXIT] = RerankDepth(finalists=FINALISTS)
    with setup.running() as (started, absent):
        contestants: dict[str, Callable[[int], Rounds]] = {
            f"{name}, {count} at once": partial(_ours, engine, many[: max(sample, count)], asked, depth, count)
            for count in callers
            for name, depth in ways.items()
        }
        for rival in started:
            if "encode" in rival.spec.abilities:
                contestants[rival.name] = partial(_theirs, Theirs(rival, engine), asked, rival.spec)
            else:
                absent[rival.name] = NO_ENCODER
        taken, failed = in_turns(contestants, repeats, seed=setup.seed, progress=setup.progress)
    absent.update(failed)
    rounds = {name + more: [one[more] for one in each] for name, each in taken.items() for more in each[0]}
    least = floor(engine, setup.reranker, asked, rates)["rerank"]
    tokens = sum(int(each.sum()) for each in asked.lengths) / len(asked.questions)
    systems = {
        name: {"per_second": spread([len(ms) / seconds for seconds, ms in each]),
               "ms": spread([one for _, ms in each for one in ms])}
        for name, each in rounds.items()
    }  # fmt: skip
    description = setup.described(asked.questions, asked.lengths, candidates=asked.candidates, repeats=repeats)
    return document(
        "throughput", MEASURES, workload=description,
        tables=[_table(description, systems, least, tokens, rates, absent)],
        rates=rates.to_dict(), floor_ms=least, tokens_per_query=tokens, systems=systems, absent=absent,
    )  # fmt: skip


def _ours(
    engine: Engine, questions: Sequence[str], asked: Asked, depth: RerankDepth, callers: int, turn: int
) -> Rounds:
    """A round of so many callers, who share the `questions`."""

    def ask(question: str) -> float:
        result = engine.search(
            question, top_k=min(10, asked.candidates), candidates=asked.candidates, depth=depth, budget_ms=None
        )
        return result.timings.total

    seconds, latencies, errors = at_once(ask, iter(questions if turn >= 0 else questions[:1]), callers)
    if errors:
        raise errors[0]
    return {"": (seconds, latencies)}


def _theirs(system: Theirs, asked: Asked, spec: Spec, turn: int) -> Rounds:
    """A round of one question after the other; and, where the rival batches across requests, of all at once, with what
    finding their candidates took, one after the other."""
    count = len(asked.questions) if turn >= 0 else 1
    answers = [system.answer(asked.questions[place], asked.rows[place]) for place in range(count)]
    total = [answer["total"] for answer in answers]
    found = {"": (sum(total) / 1e3, total)}
    if "together" in spec.abilities and turn >= 0:
        taken = sum(answer["recall"] for answer in answers) + system.answer_together(asked.questions, asked.rows)
        found[f", {count} at once"] = (taken / 1e3, [taken] * count)
    return found


def _table(
    workload: dict[str, Any], systems: dict[str, Any], least: dict[str, float], tokens: float, rates: roofline.Rates,
    absent: dict[str, str],
) -> Table:  # fmt: skip
    rows: list[Row] = [
        {"median (quartiles)": f"floor of the reranker, {name}", "queries a second": f"{1e3 / ms:.2f}",
         "ms a query": None, "pair tokens a second": round(1e3 / ms * tokens)} for name, ms in least.items()
    ]  # fmt: skip
    rows += [
        {"median (quartiles)": name, "queries a second": shown(each["per_second"]), "ms a query": shown(each["ms"]),
         # Pairs that an exit drops are not computed by all layers: a rate of tokens would compare unlike work.
         "pair tokens a second": None if name.startswith(EARLY_EXIT) else round(each["per_second"]["p50"] * tokens)}
        for name, each in systems.items()
    ]  # fmt: skip
    ours = [each["per_second"]["p50"] for name, each in systems.items() if name.startswith(f"{ALL_LAYERS}, ")
            and not name.startswith(EARLY_EXIT)]  # fmt: skip
    best = max(ours, default=0.0)
    notes = [
        f"{said(workload)}, {workload['candidates']} candidates, {workload['repeats']} rounds; {workload['reranker']}",
        rates.note(),
        *(f"{name} answers more queries a second than Tandem with all layers" for name, each in systems.items()
          if not name.startswith("tandem") and each["per_second"]["p50"] > best),
        *not_here(absent),
    ]  # fmt: skip
    return grid(f"Throughput: {workload['name']}", rows, notes)
