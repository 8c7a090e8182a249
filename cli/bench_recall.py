"""tandem bench recall: the nearest of many vectors."""

from __future__ import annotations

from pathlib import Path

import typer

from .benching import COLLECTION, QUESTIONS, RESULTS_FOLDER, SAVE, SEED, THREADS, finish, workload


def command(
    collection: Path | None = COLLECTION,
    questions: Path | None = QUESTIONS,
    rows: list[int] = typer.Option([100_000], help="Vectors; repeat for several, such as 1000000 and 10000000."),
    sample: int = typer.Option(100, min=1, help="Questions to measure with, drawn with --seed."),
    rival: list[str] = typer.Option(
        None, help="faiss flat, faiss ivf, faiss hnsw, hnswlib, usearch (default: all), or none."
    ),
    graphs_up_to: int = typer.Option(200_000, help="Most vectors that a graph is built over: minutes on two cores."),
    scratch: Path | None = typer.Option(None, help="Where vectors are written: 2 kB each (default: the temp folder)."),
    seed: int = SEED,
    threads: int | None = THREADS,
    save: bool = SAVE,
    results: Path = RESULTS_FOLDER,
) -> None:
    """The 100 nearest of n vectors for one query: time, recall against exact search, building, beside other indexes.

    Because recall has 20 ms whatever the corpus grows to, and a passage that it misses is lost for the reranker.
    Vectors lie around the collection's own; 10,000,000 take 21 GB of disk, and are left out where they do not fit.
    """
    from ..bench.recall.benchmark import recall
    from ..bench.recall.other_indexes import RECALL_RIVALS
    from ..bench.workloads import opened
    from ..engine.errors import InputError

    wanted = [] if rival == ["none"] else rival or list(RECALL_RIVALS)
    if unknown := [name for name in wanted if name not in RECALL_RIVALS]:
        raise InputError(f"unknown index {unknown[0]!r}; there are {', '.join(RECALL_RIVALS)}")
    with (
        workload(collection, questions) as (work, progress),
        opened(work, threads=threads, warm_up=False) as engine,
    ):
        document = recall(
            engine, work, sizes=rows, sample=sample, rivals=wanted, graphs_up_to=graphs_up_to, seed=seed,
            scratch=scratch, progress=progress,
        )  # fmt: skip
    finish(document, save, results, work.name, *map(str, rows))
