"""tandem bench serve: the server under load, on this machine."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from .console import err, note, print_json, progress_bar

NAME = "serve"


def command(
    collection: Path = typer.Argument(help="The collection's folder."),
    beir: Path = typer.Option(..., "--questions", help="A BEIR folder with queries.jsonl[.gz] and qrels/."),
    sample: int = typer.Option(200, min=1, help="Questions to ask in turn, drawn with --seed."),
    candidates: int = typer.Option(100, min=1, help="Passages that each search reranks."),
    seconds: float = typer.Option(30.0, min=1.0, max=600.0, help="Length of each load."),
    deadline_ms: float = typer.Option(10_000.0, min=1.0, help="Each request's deadline."),
    multiples: str = typer.Option("1,2,5", help="Loads, as multiples of the measured capacity."),
    supervise: bool = typer.Option(True, help="With the engine in a worker process, as `tandem serve` has it."),
    seed: int = typer.Option(0, help="Of the sample and of the arrivals."),
    threads: int | None = typer.Option(None, help="CPU threads (default: one a core)."),
    save: Path | None = typer.Option(None, help="Also write the JSON document to this file."),
) -> None:
    """Start a server, find its capacity, offer 1, 2 and 5 times as much: goodput, times, memory, what HTTP adds."""
    from ..bench.serve import serve_bench
    from ..engine.errors import InputError
    from ..engine.judgements import read_judged

    try:
        loads = [float(value) for value in multiples.split(",")]
    except ValueError as error:
        raise InputError(f"--multiples {multiples}: give numbers separated by commas") from error
    if not loads or not all(0 < value <= 20 for value in loads):
        raise InputError(f"--multiples {multiples}: each must be above 0 and at most 20")
    queries = read_judged(beir).queries
    names = random.Random(seed).sample(sorted(queries), min(sample, len(queries)))
    settings: dict[str, Any] = {"supervise": supervise} | ({} if threads is None else {"threads": threads})
    with progress_bar() as progress:
        document = serve_bench(
            collection, [queries[name] for name in names], candidates=candidates, seconds=seconds,
            deadline_ms=deadline_ms, multiples=loads, seed=seed, settings=settings, progress=progress,
        )  # fmt: skip
    _show(document)
    print_json(document)
    if save is not None:
        save.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _show(document: dict[str, Any]) -> None:
    table = Table(
        "load", "in/s", "good/s", "peak", "ok p50", "p95", "p99", "no p50", "p99 ms", "MB",
        box=None, pad_edge=False,
    )  # fmt: skip
    for name, load in document["loads"].items():
        accepted, refused = load["accepted_ms"] or {}, load["refused_ms"] or {}
        table.add_row(
            name, f"{load['offered']:.1f}", f"{load['goodput']:.1f}", f"{document['goodput_of_peak'][name]:.0%}",
            *(_cell(accepted.get(each)) for each in ("p50", "p95", "p99")),
            *(_cell(refused.get(each)) for each in ("p50", "p99")), f"{sum(load['resident_mb'].values()):.0f}",
        )  # fmt: skip
    err().print(table)
    overhead = document["overhead_ms"]
    note(
        f"capacity {document['capacity']:.1f} searches/s; HTTP adds p50 {overhead['outside_engine']['p50']:.2f} ms, "
        f"p95 {overhead['outside_engine']['p95']:.2f} ms to the engine's own time (recall alone: "
        f"{overhead['in_process']['p50']:.1f} ms in process, {overhead['http']['p50']:.1f} ms over HTTP)"
    )


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
