"""tandem bench gpu: everything that is said about GPUs, measured in one go."""

from __future__ import annotations

from pathlib import Path

import typer

from .console import note, print_json


def command(
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
    from ..bench.gpu.settings import Settings
    from ..bench.gpu.settings import dry_run as dry

    settings = replace(dry() if dry_run else Settings(), seed=seed, minutes=minutes)
    wanted = None if sections is None else [name.strip() for name in sections.split(",")]
    document = run(settings, output, collection=collection, sections=wanted, progress=note)
    for name, section in document["sections"].items():
        said = section["error"] or f"{len(section['rows'])} rows"
        note(f"{name}: {said} ({section['seconds']:.1f} s)")
    print_json(document)
    if document["checks_passed"] is False:
        note("a check did not pass: the times beside it are of something that is wrong or was not proven")
        raise typer.Exit(1)
