"""tandem bench latency: one query at a time."""

from __future__ import annotations

from pathlib import Path

import typer

from .benching import (  # fmt: skip
    COLLECTION,
    ENVIRONMENTS_FOLDER,
    QUESTIONS,
    RESULTS_FOLDER,
    RIVAL,
    SAVE,
    SEED,
    THREADS,
    finish,
    rivals,
    workload,
)


def command(
    collection: Path | None = COLLECTION,
    questions: Path | None = QUESTIONS,
    sample: int = typer.Option(20, min=1, help="Questions to ask, drawn with --seed."),
    candidates: int = typer.Option(100, min=1, help="Passages to rerank."),
    budget_ms: float = typer.Option(250.0, help="The budget that the budgeted searches must keep."),
    rival: list[str] = RIVAL,
    environments: Path | None = ENVIRONMENTS_FOLDER,
    precision: str = typer.Option("auto", help="Precision of our cross-encoder."),
    seed: int = SEED,
    threads: int | None = THREADS,
    save: bool = SAVE,
    results: Path = RESULTS_FOLDER,
) -> None:
    """One query at a time: each stage against the budget, the floor, and rivals with the same weights and texts.

    Because one person waits for one answer: recall has 20 ms and the whole 250. All systems answer the same questions
    in turns and rerank the same passages, so a ratio says what the engine is worth, and the floor what is left to win.
    """
    from ..bench.latency import latency
    from ..bench.workloads import in_fp32, opened

    with (
        workload(collection, questions) as (work, progress),
        opened(work, threads=threads, reranker_precision=precision) as engine,
        in_fp32(engine, work, threads=threads) as plain,
    ):
        document = latency(
            engine, work, sample=sample, candidates=candidates, rivals=rivals(rival), environments=environments,
            plain=plain, budget_ms=budget_ms, seed=seed, progress=progress,
        )  # fmt: skip
    finish(document, save, results, work.name)
