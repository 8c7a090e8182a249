"""tandem bench quality: accuracy against milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import typer

from ..engine.models.artifact import Precision
from .benching import COLLECTION, QUESTIONS, RESULTS_FOLDER, SAVE, SEED, THREADS, finish, workload


def command(
    collection: Path | None = COLLECTION,
    questions: Path | None = QUESTIONS,
    sample: int = typer.Option(100, min=1, help="Questions to ask, drawn with --seed."),
    candidates: list[int] = typer.Option([10, 20, 50, 100, 200], help="Passages to rerank; repeat for several."),
    budget_ms: list[float] = typer.Option([20, 50, 100, 150, 200, 250], help="Budgets to run; repeat for several."),
    precision: list[str] = typer.Option(["int8"], help="Of the cross-encoder; repeat for several."),
    tokens: list[int] = typer.Option([], help="Also cut pairs to so many tokens, in the first precision."),
    timed: int = typer.Option(10, min=1, help="Questions that candidate counts are timed on."),
    seed: int = SEED,
    threads: int | None = THREADS,
    save: bool = SAVE,
    results: Path = RESULTS_FOLDER,
) -> None:
    """Accuracy of recall, reranking and fusion against milliseconds: counts, lengths, precisions, budgets, BM25.

    Because time is spent to answer better: the curve tells what each millisecond buys. Logits of the deepest list are
    reused for smaller counts; budgets are really run. BM25 is the baseline without a model.
    """
    from ..bench.curve import curve
    from ..bench.workloads import opened

    chosen = [cast(Precision, name) for name in precision]  # an artifact without it says so
    with (
        workload(collection, questions) as (work, progress),
        opened(work, threads=threads, reranker_precision=chosen[0]) as engine,
    ):
        document = curve(
            engine, work, sample=sample, counts=candidates, budgets=budget_ms, precisions=chosen, lengths=tokens,
            timed=timed, seed=seed, progress=progress,
        )  # fmt: skip
    finish(document, save, results, work.name, *(precision if precision != ["int8"] else []))
