"""The benchmarks that need no collection: graphs, kernels, a GPU; and the report of what all of them kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import typer

from ..bench.document import tables
from .benching import RESULTS_FOLDER, SEED, THREADS, Measured, kept, show
from .console import note, print_json, progress_bar


@kept
def export(
    artifact: Path | None = typer.Argument(None, help="The artifact's folder (default: the bundled reranker's)."),
    repeats: int = typer.Option(15, min=1, help="Rounds, each graph on each shape."),
    rivals: bool = typer.Option(True, help="Also export with the plain tools, or time our graphs alone."),
    seed: int = SEED.default,
    threads: int | None = THREADS.default,
) -> Iterator[Measured]:
    """Size, error and milliseconds of each exported graph, beside what the export tools give without Tandem.

    Because most of a search is spent inside these graphs; the plain tools' graphs are made from the same weights.
    """
    from ..bench.export_graphs import exporting
    from ..bench.workloads import RERANKER, bundled

    artifact = artifact or bundled(RERANKER, tell=note)
    with progress_bar() as progress:
        document = exporting(artifact, repeats=repeats, threads=threads, seed=seed, rivals=rivals, progress=progress)
    yield document, [document["workload"]["name"]]


@kept
def families(
    only: str = typer.Option("", help="Only families whose name contains this."),
) -> Iterator[Measured]:
    """Which families of models are exported, and how near each one's graphs are to sentence-transformers.

    Because a user comes with a model: this is the table of docs/models.md.
    """
    from ..bench.families import families

    with progress_bar() as progress:
        document = families(only=only, progress=progress)
    yield document, []


@kept
def kernels(
    compile_only: bool = typer.Option(
        False, "--compile", help="Compile for sm_80 and sm_90 and report; no GPU needed."
    ),
    device: Literal["auto", "cpu", "cuda"] = typer.Option("auto", help="cpu: a dry run at tiny sizes."),
    only: str = typer.Option("", help="Only cases whose name contains this."),
    tune: bool = typer.Option(False, "--tune", help="Also try other launch rules (needs a GPU)."),
) -> Iterator[Measured]:
    """GB/s and TFLOP/s of each op as a share of this machine's measured peaks, and PyTorch in the same run.

    Because a kernel of our own is worth its upkeep only where it beats PyTorch at a search's sizes.
    """
    from ..bench.kernels.benchmark import compile_report, kernels

    if compile_only:
        yield compile_report(only), []
        return
    with progress_bar() as progress:
        for document in kernels(device, only=only, tune=tune, progress=progress):
            yield document, [document["workload"]["name"]]


def gpu(
    output: Path = typer.Option(..., "--out", help="Folder for gpu-<card>.md, .json and .log."),
    collection: Path | None = typer.Option(None, help="A collection with its models: measured end to end as well."),
    sections: str | None = typer.Option(
        None, help="Only these, as in checks,kernels; others of the same card and commit stay in the file."
    ),
    minutes: float = typer.Option(9.0, min=0.1, help="Time for everything; what does not fit is left out, and said."),
    seed: int = typer.Option(0, help="Of weights, vectors and texts."),
    dry_run: bool = typer.Option(False, "--dry-run", help="On the CPU at tiny sizes, to see that everything runs."),
) -> None:
    """Checks, floors, kernels, latency, throughput and rivals on this machine's GPU, without network or files.

    Each part runs in a process of its own and every row is kept at once, so that a fault or a time limit costs little.
    The last line of stdout is JSON.
    """
    from dataclasses import replace

    from ..bench.gpu.run import run
    from ..bench.gpu.settings import DRY_RUN, Settings

    settings = replace(DRY_RUN if dry_run else Settings(), seed=seed, minutes=minutes)
    wanted = None if sections is None else [name.strip() for name in sections.split(",")]
    document = run(settings, output, collection=collection, sections=wanted, progress=note)
    for table in tables(document):
        show(table)
    print_json(document)
    if document["checks_passed"] is False:
        note("a check did not pass: the times beside it are of something that is wrong or was not proven")
        raise typer.Exit(1)


def report(
    results: Path = RESULTS_FOLDER,
    output: Path = typer.Option(Path("bench") / "RESULTS.md", "--out", help="The report."),
) -> None:
    """Turn saved results into a page with tables and pictures (SVG, beside the results)."""
    from ..bench.report import report

    path = report(results, output)
    note(f"{path} from {results}")
    print_json({"report": str(path), "results": sorted(file.stem for file in results.glob("*.json"))})


COMMANDS: dict[str, Callable[..., None]] = {
    "export": export,
    "families": families,
    "gpu": gpu,
    "kernels": kernels,
    "report": report,
}
