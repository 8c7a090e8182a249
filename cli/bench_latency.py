"""tandem bench latency: one query at a time."""

from __future__ import annotations

import random
from pathlib import Path

import typer

from .benching import RESULTS_FOLDER, SAVE, SEED, THREADS, finish
from .console import progress_bar


def command(
    collection: Path = typer.Argument(help="The collection's folder."),
    beir: Path = typer.Option(..., "--questions", help="A BEIR folder with queries.jsonl[.gz] and qrels/."),
    sample: int = typer.Option(20, min=1, help="Questions to ask, drawn with --seed."),
    candidates: int = typer.Option(100, min=1, help="Passages to rerank."),
    budget_ms: float = typer.Option(250.0, help="The budget that the budgeted searches must keep."),
    rival: list[str] = typer.Option(["sentence-transformers", "plain-onnx"], help="Rivals; repeat for several."),
    precision: str = typer.Option("auto", help="Precision of our cross-encoder."),
    seed: int = SEED,
    threads: int | None = THREADS,
    save: bool = SAVE,
    results: Path = RESULTS_FOLDER,
) -> None:
    """One query at a time: stages against the budget; rivals in the same run with the same weights and texts."""
    from ..bench.latency import latency
    from ..engine import Engine
    from ..engine.judgements import read_judged

    queries = read_judged(beir).queries
    names = random.Random(seed).sample(sorted(queries), min(sample, len(queries)))
    with (
        Engine.open(collection, device="cpu", threads=threads, reranker_precision=precision) as engine,
        progress_bar() as progress,
    ):
        document = latency(
            engine, [queries[name] for name in names], candidates=candidates, budget_ms=budget_ms, rivals=rival,
            seed=seed, progress=progress,
        )  # fmt: skip
    finish(document, save, results, document["workload"]["collection"])
