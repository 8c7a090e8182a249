"""tandem bench serve: the server under load, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from .benching import COLLECTION, QUESTIONS, RESULTS_FOLDER, SAVE, SEED, THREADS, finish, workload


def command(
    collection: Path | None = COLLECTION,
    questions: Path | None = QUESTIONS,
    sample: int = typer.Option(200, min=1, help="Questions to ask in turn, drawn with --seed."),
    candidates: int = typer.Option(100, min=1, help="Passages that each search reranks."),
    seconds: float = typer.Option(30.0, min=1.0, max=600.0, help="Length of each load."),
    deadline_ms: float = typer.Option(10_000.0, min=1.0, help="Each request's deadline."),
    multiples: str = typer.Option("1,2,5", help="Loads, as multiples of the measured capacity."),
    supervise: bool = typer.Option(True, help="With the engine in a worker process, as `tandem serve` has it."),
    seed: int = SEED,
    threads: int | None = THREADS,
    save: bool = SAVE,
    results: Path = RESULTS_FOLDER,
) -> None:
    """Start a server, find its capacity, offer 1, 2 and 5 times as much: goodput, times, memory, what HTTP adds.

    Because a server is chosen by what it does when too much is asked of it.
    """
    from ..bench.serving.server_load import serve_bench
    from ..engine.errors import InputError

    try:
        loads = [float(value) for value in multiples.split(",")]
    except ValueError as error:
        raise InputError(f"--multiples {multiples}: give numbers separated by commas") from error
    if not loads or not all(0 < value <= 20 for value in loads):
        raise InputError(f"--multiples {multiples}: each must be above 0 and at most 20")
    settings: dict[str, Any] = {"supervise": supervise} | ({} if threads is None else {"threads": threads})
    with workload(collection, questions) as (work, progress):
        document = serve_bench(
            work, sample=sample, candidates=candidates, seconds=seconds, deadline_ms=deadline_ms, multiples=loads,
            seed=seed, settings=settings, progress=progress,
        )  # fmt: skip
    finish(document, save, results, work.name)
