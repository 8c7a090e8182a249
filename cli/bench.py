"""tandem bench: how fast, beside rivals and the floor."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from . import bench_gpu, bench_kernels
from .console import err, note, print_json, progress_bar

app = typer.Typer(
    help="Measure speed beside rivals and the floor; the last line of stdout is JSON.", no_args_is_help=True
)

for module in (bench_gpu, bench_kernels):
    app.command(module.NAME)(module.command)


@app.command("latency")
def latency_command(
    collection: Path = typer.Argument(help="The collection's folder."),
    beir: Path = typer.Option(..., "--questions", help="A BEIR folder with queries.jsonl[.gz] and qrels/."),
    sample: int = typer.Option(20, min=1, help="Questions to ask, drawn with --seed."),
    candidates: int = typer.Option(100, min=1, help="Passages to rerank."),
    budget_ms: float = typer.Option(250.0, help="The budget that the budgeted searches must keep."),
    rival: list[str] = typer.Option(["sentence-transformers", "plain-onnx"], help="Rivals; repeat for several."),
    precision: str = typer.Option("auto", help="Precision of our cross-encoder."),
    seed: int = typer.Option(0, help="Of the sample and of the order in which systems answer."),
    threads: int | None = typer.Option(None, help="CPU threads (default: one a core)."),
    save: Path | None = typer.Option(None, help="Also write the JSON document to this file."),
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
    _show(document)
    print_json(document)
    if save is not None:
        import json

        save.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _show(document: dict[str, Any]) -> None:
    systems, ratios = document["systems"], document["ratios"]
    stages = list(next(iter(systems.values())))
    table = Table("p50 ms (p95)", *stages, "slower than tandem", box=None)
    for name, each in systems.items():
        cells = [f"{each[stage]['p50']:.1f} ({each[stage]['p95']:.1f})" if stage in each else "" for stage in stages]
        table.add_row(name, *cells, f"{ratios[name]['rerank']:.1f}x rerank" if name in ratios else "")
    err().print(table)
    workload, budget = document["workload"], document["budget"]
    note(
        f"{workload['questions']} questions, {workload['candidates']} candidates of {workload['pair_tokens']['mean']} "
        f"tokens with the query; floor of the reranker's arithmetic in FP32 {document['fp32_floor_ms']} ms"
    )
    note(
        f"with a budget of {budget['ms']:.0f} ms: p50 {budget['total']['p50']:.0f}, p95 {budget['total']['p95']:.0f}, "
        f"{budget['reranked_mean']:.0f} reranked on average, {budget['over']} over the budget"
    )
