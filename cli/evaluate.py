"""tandem eval: how good the answers are."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer
from rich.table import Table

from .benching import RESULTS_FOLDER, SAVE, typed
from .console import note, out, print_json, progress_bar

if TYPE_CHECKING:
    from ..bench.quality import Quality

NAME = "eval"
EXAMPLES = (
    "tandem eval collection beir-folder",
    "tandem eval collection beir-folder --sample 200 --budget-ms 250",
)
CANDIDATES = 100
Wanted = Literal["auto", "fp32", "fp16", "int8"]


def command(
    collection: Path = typer.Argument(help="The collection's folder."),
    beir: Path = typer.Argument(help="A folder with queries.jsonl[.gz] and qrels/<split>.tsv[.gz]."),
    split: str | None = typer.Option(None, help="The qrels' split, where there are several."),
    candidates: int = typer.Option(CANDIDATES, help="Passages that recall hands to the cross-encoder."),
    budget_ms: float = typer.Option(0.0, help="Milliseconds a search may take; 0: no limit."),
    rerank: bool = typer.Option(True, help="Measure reranking too, or recall alone."),
    rerank_count: int | None = typer.Option(
        None, min=1, help="Candidates that the cross-encoder reads, those with the best evidence (default: all)."
    ),
    reread: int | None = typer.Option(
        None, min=1, help="Candidates, the best so far, that are read again window by window (default: none)."
    ),
    sample: int | None = typer.Option(None, min=1, help="Ask this many questions, drawn with --seed, instead of all."),
    seed: int = typer.Option(0, help="Seed of the sample; the same seed asks the same questions."),
    recall_weight: float | None = typer.Option(None, help="Weight of the first stage's evidence in the fused order."),
    lexical_weight: float | None = typer.Option(None, help="Weight of the lexical score beside the cosine in it."),
    precision: Wanted = typer.Option("auto", help="Precision of the cross-encoder."),
    encoder: Path | None = typer.Option(None, help="Where the bi-encoder is now, if it was moved."),
    reranker: Path | None = typer.Option(None, help="Where the cross-encoder is now, if it was moved."),
    runs: Path | None = typer.Option(None, help="Write TREC run files, one an order, into this folder."),
    hits: Path | None = typer.Option(None, help="Write every candidate with its scores as JSON lines into this file."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    threads: int | None = typer.Option(None, help="CPU threads (default: one a core)."),
    keep: bool = SAVE,
    results: Path = RESULTS_FOLDER,
    json_output: bool = typer.Option(False, "--json", help="One JSON line on stdout."),
) -> None:
    """Measure how good the answers are, on judged questions: accuracy@k, recall@100, MRR@10, nDCG@10.

    Of three orders: recall alone, reranking alone, and both together as a search has them."""
    from ..bench.document import save
    from ..bench.environment import begin
    from ..bench.evaluation import evaluation
    from ..bench.quality import evaluate, hits_file, write_trec_run
    from ..engine import Engine
    from ..engine.build.beir import read_judged

    begin()
    judged = read_judged(beir, split)
    with (
        Engine.open(
            collection, encoder=encoder, reranker=reranker, device=device, threads=threads,
            reranker_precision=precision, recall_weight=recall_weight,
            lexical_weight=lexical_weight,
        ) as engine,
        progress_bar() as progress,
        nullcontext() if hits is None else hits_file(hits, judged.qrels) as found,
    ):  # fmt: skip
        quality = evaluate(
            engine, judged, candidates=candidates, budget_ms=budget_ms or None, rerank=rerank,
            rerank_count=rerank_count, reread=reread, sample=sample, seed=seed, found=found, progress=progress,
        )  # fmt: skip
        if keep:
            document = evaluation(quality, engine, name=beir.resolve().name, seed=seed)
            differs = _differs(split, candidates, budget_ms, rerank, rerank_count, reread, precision)
            note(f"kept in {save({**document, 'command': typed()}, results, beir.resolve().name, *differs)}")
    if json_output:
        print_json(quality.to_dict())
    else:
        _show(quality)
    if runs is not None:
        runs.mkdir(parents=True, exist_ok=True)
        for order, run in quality.runs.items():
            write_trec_run(runs / f"{order}.trec", run, f"tandem-{order}")


def _differs(
    split: str | None,
    candidates: int,
    budget_ms: float,
    rerank: bool,
    rerank_count: int | None,
    reread: int | None,
    precision: Wanted,
) -> list[str]:
    """Parts of a saved result's name: in what it is another measurement, and not the same on more questions."""
    parts = [
        (split or "", split is not None),
        (f"{candidates}-candidates", candidates != CANDIDATES),
        (f"{budget_ms:g}-ms", budget_ms > 0),
        ("recall", not rerank),
        (f"{rerank_count}-read", rerank_count is not None),
        (f"{reread}-again", reread is not None),
        (precision, precision != "auto"),
    ]
    return [part for part, wanted in parts if wanted]


def _show(quality: Quality) -> None:
    orders = list(quality.metrics)
    table = Table("", *orders, *(["gain"] if "fused" in orders else []), box=None)
    for metric, base in quality.metrics["recall"].items():
        row = [f"{quality.metrics[order][metric]:.3f}" if metric in quality.metrics[order] else "" for order in orders]
        if "fused" in orders:
            row.append(f"{quality.metrics['fused'][metric] - base:+.3f}")
        table.add_row(metric, *row)
    out().print(table)
    stages = Table("ms", "p50", "p95", "p99", box=None)
    for stage, values in quality.latency.items():
        stages.add_row(stage, *(f"{values[key]:.1f}" for key in ("p50", "p95", "p99")))
    out().print(stages)
    note(
        f"{quality.questions} questions, {quality.candidates} candidates, recall weight {quality.recall_weight:.2f}, "
        f"lexical weight {quality.lexical_weight:g}"
    )
    if quality.degraded:
        note(f"{quality.degraded} searches were degraded by the budget")
