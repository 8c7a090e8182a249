"""tandem demo: everything once, on what every machine has."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from ..engine.result import Hit
from .cache import cache_folder
from .console import WIDTH, note, out, progress_bar, waiting
from .console import show as show_page
from .demo_models import ENCODER, RERANKER, SUGGESTED, as_folder, demo_models
from .matching import excerpt
from .text import one_line

if TYPE_CHECKING:  # a command imports what it needs when it runs
    from ..engine import Engine

NAME = "demo"
EXAMPLES = (
    "tandem demo",
    'tandem demo --corpus ~/notes --question "what did we decide about backups"',
    f"tandem demo --reranker {SUGGESTED}",
)
CORPUS = "python:stdlib,numpy"
FIRST_RUN = "; this first run takes about four minutes on two cores, the next ones seconds"
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
    corpus: str = typer.Option(CORPUS, help="What to index: as in `tandem index`, for example a folder of notes."),
    question: list[str] = typer.Option([], help="Ask this instead of the prepared questions; repeat for several."),
    reranker: str = typer.Option(
        RERANKER,
        help="The cross-encoder: the bundled one, which needs no network; a name of the Hugging Face Hub, such as "
        f"{SUGGESTED} (`tandem models` lists more); or a folder with a model or an artifact.",
    ),
    folder: Path | None = typer.Option(
        None, "--folder", "--out", help="Where the models and the collection go (default: ~/.cache/tandem)."
    ),
    budget_ms: float = typer.Option(
        RECALL_BUDGET_MS + RERANK_BUDGET_MS, min=0, help="Milliseconds that one search may take; 0: no limit."
    ),
    show: int = typer.Option(5, min=1, max=10, help="Passages to show of each order."),
) -> None:
    """See everything once: export two models, index the documentation of Python and numpy, answer questions.

    The first run takes some minutes, the next ones seconds: models and collection are kept in one place, wherever
    the command is called from ($XDG_CACHE_HOME/tandem, usually ~/.cache/tandem).
    """
    from ..engine import Engine

    folder = folder or cache_folder()
    known = (folder / "models" / ENCODER).is_dir()
    note(f"models and collection are kept in {folder}" + ("" if known else FIRST_RUN))
    if reranker == RERANKER:
        note(f"the reranker is the bundled one; where there is a network, --reranker {SUGGESTED} takes a known one")
    collection = _collection(corpus, folder, *demo_models(folder, reranker))
    with waiting("opening the collection and its models"):
        opened = Engine.open(collection)
    with opened as engine:
        note(f"{len(engine.collection):,} passages on the {engine.device.kind} ({engine.device.reason})")
        _answer(engine, question or QUESTIONS, budget_ms, show)
    note(f'ask your own: tandem search {shlex.quote(str(collection))} "…"')


_STAGES = ("tokenize", "encode", "recall", "fetch", "queue", "rerank", "total")


def _collection(corpus: str, folder: Path, encoder: Path, reranker: Path) -> Path:
    from ..engine.build.indexing import index_corpus

    kept = reranker.parent == folder / "models"
    own = "" if kept and reranker.name == RERANKER else f"-by-{reranker.name if kept else as_folder(str(reranker))}"
    path = folder / "collections" / (as_folder(corpus) + own)
    note(f"{corpus}: indexing (about a minute for 10,000 passages on two cores; nothing where nothing changed)")
    with progress_bar() as progress:
        report = index_corpus(corpus, path, encoder=encoder, reranker=reranker, progress=progress)
    for sentence in report.notes:
        note(sentence)
    note(("nothing changed: " if report.unchanged else "") + report.summary())
    return path


def _answer(engine: Engine, questions: Sequence[str], budget_ms: float, count: int) -> None:
    """Each question's answers in both orders with the best passage, then the times of all."""
    times = Table("ms", *_STAGES, "reranked", box=None)
    for number, text in enumerate(questions, start=1):
        result = engine.search(text, budget_ms=budget_ms or None)
        out().print(Text(f"\n{number}. {one_line(text)}", "bold"))
        show_page(_side_by_side(engine.search(text, rerank=False).hits[:count], result.hits[:count]))
        if result.hits:
            room = min(out().width, WIDTH) - len(_BEST)
            show_page(Text.assemble((_BEST, "dim"), excerpt(result.hits[0].text, text, room)))
        took = [f"{getattr(result.timings, stage):.1f}" for stage in _STAGES]
        times.add_row(f"{number}.", *took, f"{result.reranked}/{result.candidates}")
    out().print("")
    show_page(times)
    out().print(f"budget: recall (encode + recall) {RECALL_BUDGET_MS:.0f} ms, rerank {RERANK_BUDGET_MS:.0f} ms")


_BEST = " best: "


def _side_by_side(recalled: Sequence[Hit], reranked: Sequence[Hit]) -> Table:
    """Recall's best beside the best after reranking, with the place where recall had each of those."""
    table = Table(box=None, expand=True)
    for heading in ("recall alone", "after the cross-encoder"):
        table.add_column(heading, ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("was", justify="right")
    for before, after in zip(recalled, reranked, strict=True):
        table.add_row(_name(before), _name(after), str(after.recall_rank))
    return table


def _name(hit: Hit) -> str:
    return one_line(hit.title or hit.id)
