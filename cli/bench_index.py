"""tandem bench index: from texts to a collection."""

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
    passages: int = typer.Option(500, min=1, help="Passages to encode and index, drawn with --seed."),
    repeats: int = typer.Option(3, min=1, help="Times that every system encodes them."),
    rival: list[str] = RIVAL,
    environments: Path | None = ENVIRONMENTS_FOLDER,
    scratch: Path | None = typer.Option(None, help="Where the collection is written (default: the temp folder)."),
    seed: int = SEED,
    threads: int | None = THREADS,
    save: bool = SAVE,
    results: Path = RESULTS_FOLDER,
) -> None:
    """Passages a second from texts to a published collection, and of the encoder alone, beside rivals and the floor.

    Because a corpus is indexed whole before the first question, and again when it changes.
    """
    from ..bench.indexing import indexing
    from ..bench.workloads import opened

    with (
        workload(collection, questions) as (work, progress),
        opened(work, threads=threads, warm_up=False) as engine,
    ):
        document = indexing(
            engine, work, passages=passages, repeats=repeats, rivals=rivals(rival), environments=environments,
            scratch=scratch, seed=seed, progress=progress,
        )  # fmt: skip
    finish(document, save, results, work.name)
