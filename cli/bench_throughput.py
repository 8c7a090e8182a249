"""tandem bench throughput: many callers at once."""

from __future__ import annotations

from pathlib import Path

import typer

from .benching import (
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
    sample: int = typer.Option(16, min=1, help="Questions asked in each round, drawn with --seed."),
    candidates: int = typer.Option(100, min=1, help="Passages to rerank."),
    callers: list[int] = typer.Option([1, 4, 16], help="Threads that ask at once; repeat for several."),
    repeats: int = typer.Option(3, min=1, help="Rounds."),
    rival: list[str] = RIVAL,
    environments: Path | None = ENVIRONMENTS_FOLDER,
    precision: str = typer.Option("auto", help="Precision of our cross-encoder."),
    seed: int = SEED,
    threads: int | None = THREADS,
    save: bool = SAVE,
    results: Path = RESULTS_FOLDER,
) -> None:
    """Queries a second with many callers at once and every candidate reranked, beside rivals and the floor.

    Because a server is asked by many: Tandem shares micro-batches between callers, which libraries called one request
    after the other cannot.
    """
    from ..bench.throughput import throughput
    from ..bench.workloads import opened

    with (
        workload(collection, questions) as (work, progress),
        opened(work, threads=threads, reranker_precision=precision) as engine,
    ):
        document = throughput(
            engine, work, sample=sample, candidates=candidates, callers=callers, repeats=repeats, rivals=rivals(rival),
            environments=environments, seed=seed, progress=progress,
        )  # fmt: skip
    finish(document, save, results, work.name)
