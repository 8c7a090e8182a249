"""tandem bench export: our graphs beside the plain tools'."""

from __future__ import annotations

from pathlib import Path

import typer

from .benching import RESULTS_FOLDER, SAVE, SEED, THREADS, finish
from .console import note, progress_bar


def command(
    artifact: Path | None = typer.Argument(None, help="The artifact's folder (default: the bundled reranker's)."),
    repeats: int = typer.Option(15, min=1, help="Rounds, each graph on each shape."),
    rivals: bool = typer.Option(True, help="Also export with the plain tools, or time our graphs alone."),
    seed: int = SEED,
    threads: int | None = THREADS,
    save: bool = SAVE,
    results: Path = RESULTS_FOLDER,
) -> None:
    """Size, error and milliseconds of each exported graph, beside what the export tools give without Tandem.

    Because most of a search is spent inside these graphs; the plain tools' graphs are made from the same weights.
    """
    from ..bench.exporting import exporting
    from ..bench.workloads import FOLDER, RERANKER

    if artifact is None:
        from ..export.bundled_artifacts import exported

        artifact = exported(RERANKER, FOLDER / "models" / RERANKER, note)
    with progress_bar() as progress:
        document = exporting(artifact, repeats=repeats, threads=threads, seed=seed, rivals=rivals, progress=progress)
    finish(document, save, results, document["workload"]["name"])
