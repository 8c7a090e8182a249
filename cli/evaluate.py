"""tandem eval: how good the answers are."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich.table import Table

from ..engine.config import CANDIDATES, EngineOptions, SearchOptions, SearchSettings
from ..engine.errors import InputError
from ..engine.platform.durable_io import storage
from .benching import RESULTS_FOLDER, SAVE, typed
from .console import note, out, print_json, progress_bar, show
from .options import ENCODER, with_options

if TYPE_CHECKING:
    from ..bench.quality.comparison import Comparison
    from ..bench.quality.evaluate import Quality

NAME = "eval"
EXAMPLES = (
    "tandem eval collection beir-folder",
    "tandem eval collection beir-folder --sample 200 --budget-ms 250",
)
# Of the options of an engine and of a search, the ones that an evaluation takes.
_ENGINE = frozenset({"device", "threads", "recall_weight", "lexical_weight"})
_SEARCH = frozenset({"candidates", "rerank", "effort"})
Wanted = Literal["auto", "fp32", "fp16", "int8"]


@with_options(EngineOptions, leave_out=EngineOptions.model_fields.keys() - _ENGINE)
@with_options(SearchOptions, leave_out=SearchOptions.model_fields.keys() - _SEARCH)
def command(
    given: dict[str, Any],
    collection: Path = typer.Argument(help="The collection's folder."),
    beir: Path = typer.Argument(help="A folder with queries.jsonl[.gz] and qrels/<split>.tsv[.gz]."),
    split: str | None = typer.Option(None, help="The qrels' split, where there are several."),
    budget_ms: float = typer.Option(0.0, help="Milliseconds a search may take; 0: no limit."),
    sample: int | None = typer.Option(None, min=1, help="Ask this many questions, drawn with --seed, instead of all."),
    seed: int = typer.Option(0, help="Seed of the sample; the same seed asks the same questions."),
    precision: Wanted = typer.Option("auto", help="Precision of the cross-encoder."),
    encoder: Path | None = typer.Option(None, help=ENCODER, envvar="TANDEM_ENCODER"),
    reranker: list[Path] = typer.Option(
        [], "--reranker", help="A cross-encoder instead of the collection's own; several are compared in one table."
    ),
    runs: Path | None = typer.Option(
        None, help="Write TREC run files, one an order, into this folder; with several rerankers a folder for each."
    ),
    hits: Path | None = typer.Option(None, help="Write every candidate with its scores as JSON lines into this file."),
    keep: bool = SAVE,
    results: Path = RESULTS_FOLDER,
    json_output: bool = typer.Option(False, "--json", help="One JSON line on stdout."),
) -> None:
    """Measure how good the answers are, on judged questions: accuracy@k, recall@100, MRR@10, nDCG@10.

    Of three orders: recall alone, reranking alone, and both together as a search has them; and of the vectors alone
    where recall looks for words too. With several --reranker, each orders the same candidates, which recall finds once
    a question."""
    from ..bench.document import save, slug
    from ..bench.environment import begin
    from ..bench.quality.comparison import Comparison, compare, named
    from ..bench.quality.evaluate import evaluate, hits_file
    from ..bench.quality.evaluation import evaluation
    from ..engine import Engine
    from ..engine.build.beir import read_judged

    begin()
    settings = {name: given.pop(name) for name in _ENGINE & given.keys()}
    asked = SearchSettings(top_k=1, budget_ms=budget_ms or None, **given)
    judged = read_judged(beir, split)
    chosen: dict[str, Any] = {
        "candidates": asked.recalled, "budget_ms": asked.budget_ms, "rerank": asked.rerank,
        "effort": asked.effort, "sample": sample, "seed": seed,
    }  # fmt: skip

    def opened(path: Path | None) -> Engine:
        return Engine.open(collection, encoder=encoder, reranker=path, reranker_precision=precision, **settings)

    def finish(engine: Engine, quality: Quality, *name: str) -> None:
        """Keep what is to be kept of an evaluation; `name`: the reranker's, where there are several."""
        if keep:
            document = evaluation(quality, engine, name=beir.resolve().name, seed=seed)
            differs = (*_differs(split, asked, precision), *name)
            note(f"kept in {save({**document, 'command': typed()}, results, beir.resolve().name, *differs)}")
        if runs is not None:
            _write_runs(runs.joinpath(*map(slug, name)), quality)

    with progress_bar() as progress, nullcontext() if hits is None else hits_file(hits, judged.qrels) as found:
        if len(reranker) > 1:
            if not asked.rerank:
                raise InputError("--no-rerank leaves nothing to compare; give one --reranker, or none")
            told: Quality | Comparison = compare(
                named(reranker), opened, judged, progress=progress, then=finish,
                found=lambda name: None if found is None else partial(found, reranker=name), **chosen,
            )  # fmt: skip
        else:
            with opened(reranker[0] if reranker else None) as engine:
                told = evaluate(engine, judged, found=found, progress=progress, **chosen)
                finish(engine, told)
    if json_output:
        print_json(told.to_dict())
    elif isinstance(told, Comparison):
        _show_comparison(told)
    else:
        _show(told)


def _write_runs(folder: Path, quality: Quality) -> None:
    from ..bench.quality.evaluate import write_trec_run

    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for order, run in quality.runs.items():
        write_trec_run(folder / f"{order}.trec", run, f"tandem-{order}")


def _differs(split: str | None, asked: SearchSettings, precision: Wanted) -> list[str]:
    """Parts of a saved result's name: in what it is another measurement, and not the same on more questions."""
    parts = [
        (split or "", split is not None),
        (f"{asked.recalled}-candidates", asked.recalled != CANDIDATES),
        (f"{asked.budget_ms or 0:g}-ms", asked.budget_ms is not None),
        ("recall", not asked.rerank),
        (asked.effort, asked.effort != SearchOptions().effort),
        (precision, precision != "auto"),
    ]
    return [part for part, wanted in parts if wanted]


def _show(quality: Quality) -> None:
    from ..bench.quality.evaluation import said

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
    if "fused" in orders:
        note(said(quality))
    if quality.degraded:
        note(f"{quality.degraded} searches were degraded by the budget")


def _show_comparison(comparison: Comparison) -> None:
    """One table: recall, then each reranker alone and fused."""
    rows = comparison.rows
    shown = ("nDCG@10", "accuracy@1", "MRR@10", "recall@100")
    table = Table("reranker", "order", *shown, "p50 ms", box=None)
    for row in rows:
        cells = [f"{row.metrics[metric]:.3f}" if metric in row.metrics else "" for metric in shown]
        table.add_row(row.reranker or "none", row.order, *cells, f"{row.p50_ms:.1f}")
    show(table)
    for name, quality in comparison.qualities.items():
        note(
            f"{name}: recall weight {quality.recall_weight:.2f}, lexical weight {quality.lexical_weight:g}"
            + (f"; {quality.degraded} searches were degraded by the budget" if quality.degraded else "")
        )
    first = next(iter(comparison.qualities.values()))
    note(f"{first.questions} questions, {first.candidates} candidates, which recall found once for all rerankers")
