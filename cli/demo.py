"""tandem demo: everything once, on what every machine has."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.table import Table
from rich.text import Text

from ..engine.result import Hit
from .console import note, out, progress_bar

NAME = "demo"
ENCODER, RERANKER = "minilm-l6", "minilm-l6-reranker"
CORPUS = "python:stdlib,numpy"
RECALL_BUDGET_MS, RERANK_BUDGET_MS = 20.0, 250.0
QUESTIONS = (
    "how do I parse a date from a string",
    "run a function after a delay in another thread",
    "remove duplicate values from an array and count them",
    "temporary folder that is deleted when I am done",
    "solve a system of linear equations",
    "compare two texts and show the lines that differ",
    "which function tells whether a path is a symbolic link",
    "read a password without showing it on the screen",
)


def command(
    corpus: str = typer.Option(CORPUS, help="What to index: as in `tandem index`, for example a folder of yours."),
    question: list[str] = typer.Option([], help="Ask this instead of the prepared questions; repeat for several."),
    folder: Path = typer.Option(Path(".demo"), help="Where the models and the collection go."),
    budget_ms: float = typer.Option(RECALL_BUDGET_MS + RERANK_BUDGET_MS, help="Milliseconds a search may take."),
    show: int = typer.Option(5, min=1, max=10, help="Passages to show of each order."),
) -> None:
    """Export the bundled models, index the documentation of Python and numpy, and answer questions in two stages."""
    from ..engine import Engine
    from ..export.bundled_artifacts import exported

    encoder, reranker = (exported(name, folder / "models" / name, note) for name in (ENCODER, RERANKER))
    collection = _collection(corpus, folder, encoder, reranker)
    with Engine.open(collection) as engine:
        note(f"{len(engine.collection)} passages on the {engine.device.kind} ({engine.device.reason})")
        table = Table("ms", *_STAGES, "reranked", box=None)
        for number, text in enumerate(question or QUESTIONS, start=1):
            result = engine.search(text, budget_ms=budget_ms)
            out().print(Text(f"\n{number}. {text}", "bold"))
            out().print(_side_by_side(engine.search(text, rerank=False).hits[:show], result.hits[:show]))
            table.add_row(
                f"{number}.",
                *(f"{getattr(result.timings, stage):.1f}" for stage in _STAGES),
                f"{result.reranked}/{result.candidates}",
            )
    out().print("")
    out().print(table)
    out().print(f"budget: recall (encode + recall) {RECALL_BUDGET_MS:.0f} ms, rerank {RERANK_BUDGET_MS:.0f} ms")
    note(f'ask your own: tandem search {collection} "…"')


_STAGES = ("tokenize", "encode", "recall", "fetch", "queue", "rerank", "total")


def _collection(corpus: str, folder: Path, encoder: Path, reranker: Path) -> Path:
    from ..engine.build.indexing import index_corpus

    name = "".join(letter if letter.isalnum() else "-" for letter in corpus).strip("-")
    path = folder / "collections" / name
    note(f"{corpus}: indexing into {path} (some minutes, unless it is there)")
    with progress_bar() as progress:
        report = index_corpus(corpus, path, encoder=encoder, reranker=reranker, progress=progress)
    note(("nothing changed: " if report.unchanged else "") + report.summary())
    return path


def _side_by_side(recalled: list[Hit], reranked: list[Hit]) -> Table:
    """Recall's best beside the best after reranking, with the place where recall had each of those."""
    table = Table(box=None, expand=True)
    for heading in ("recall alone", "after the cross-encoder"):
        table.add_column(heading, ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("was", justify="right")
    for before, after in zip(recalled, reranked, strict=True):
        table.add_row(_name(before), _name(after), str(after.recall_rank))
    return table


def _name(hit: Hit) -> Text:
    return Text.assemble((f"{hit.title or hit.id} ", "bold"), " ".join(hit.text.split())[:120])
