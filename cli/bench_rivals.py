"""tandem bench rivals: who can be compared with on this machine."""

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
from .console import note


def command(
    collection: Path | None = COLLECTION,
    questions: Path | None = QUESTIONS,
    install: bool = typer.Option(False, "--install", help="First make the environments that rivals need."),
    sample: int = typer.Option(3, min=1, help="Questions to compare on, drawn with --seed."),
    candidates: int = typer.Option(20, min=2, help="Passages a question."),
    rival: list[str] = RIVAL,
    environments: Path | None = ENVIRONMENTS_FOLDER,
    seed: int = SEED,
    threads: int | None = THREADS,
    save: bool = SAVE,
    results: Path = RESULTS_FOLDER,
) -> None:
    """Which rivals run here, and whether their scores order the same pairs as ours: before any speed is compared.

    Because a rival that reads other text or other segments is not slower or faster, it does something else. What cannot
    run here is listed with its reason.
    """
    from ..bench.rivals import RIVALS
    from ..bench.rivals.agreement import agreement
    from ..bench.rivals.environments import install as make
    from ..bench.workloads import opened

    wanted = rivals(rival or ["all"])
    absent: dict[str, str] = {}
    if install:
        needed = dict.fromkeys(RIVALS[name].environment for name in wanted if RIVALS[name].environment)
        failed = make(list(needed), environments, tell=note)
        absent = {name: failed[RIVALS[name].environment] for name in wanted if RIVALS[name].environment in failed}
    with (
        workload(collection, questions) as (work, _),
        opened(work, threads=threads, warm_up=False) as engine,
    ):
        document = agreement(
            engine, work, rivals=wanted, sample=sample, candidates=candidates, environments=environments, seed=seed,
            absent=absent, tell=note,
        )  # fmt: skip
    finish(document, save, results)
