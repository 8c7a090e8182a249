"""tandem demo: everything once, on what every machine has."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from ..engine.errors import ArtifactError
from ..engine.result import Hit
from .cache import cache_folder
from .console import WIDTH, note, out, progress_bar, waiting
from .console import show as show_page
from .matching import excerpt
from .text import one_line

if TYPE_CHECKING:  # a command imports what it needs when it runs
    from ..engine import Engine

NAME = "demo"
EXAMPLES = (
    "tandem demo",
    'tandem demo --corpus ~/notes --question "what did we decide about backups"',
)
ENCODER, RERANKER = "minilm-l6", "minilm-l6-reranker"
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
    known = (folder / "models" / RERANKER).is_dir()
    note(f"models and collection are kept in {folder}" + ("" if known else FIRST_RUN))
    encoder, reranker = bundled_models(folder)
    collection = _collection(corpus, folder, encoder, reranker)
    with waiting("opening the collection and its models"):
        opened = Engine.open(collection)
    with opened as engine:
        note(f"{len(engine.collection):,} passages on the {engine.device.kind} ({engine.device.reason})")
        _answer(engine, question or QUESTIONS, budget_ms, show)
    note(f'ask your own: tandem search {shlex.quote(str(collection))} "…"')


_STAGES = ("tokenize", "encode", "recall", "fetch", "queue", "rerank", "total")


def bundled_models(folder: Path) -> tuple[Path, Path]:
    """The bundled bi-encoder and cross-encoder in `folder`, exported unless they are there.

    An export that was killed leaves a folder that nothing takes for a model, and that goes with the next one. Raises
    StorageError while another process exports into the same folder.
    """
    from ..engine.collection.versions import writer_lock

    models = folder / "models"
    with writer_lock(models):
        for left in [*models.glob(".*.partial"), *models.glob(".*.former")]:
            shutil.rmtree(left)
        return _model(ENCODER, models, "half a minute"), _model(RERANKER, models, "two minutes")


def _model(name: str, models: Path, takes: str) -> Path:
    """A bundled model in `models`, made anew where what lies there is damaged or of another version of Tandem."""
    path = models / name
    with waiting(f"{name}: an export takes {takes} on two cores"):  # PyTorch's import alone takes seconds
        from ..export import export_model
        from ..export.bundled import BUNDLED
        from ..export.bundled_artifacts import exported

        try:
            return exported(name, path, note)
        except ArtifactError as error:
            note(f"{error}; exporting it again")
            return export_model(name, BUNDLED[name].kind, path, progress=note).path


def _collection(corpus: str, folder: Path, encoder: Path, reranker: Path) -> Path:
    from ..engine.build.indexing import index_corpus

    # Not two corpora of one name: `notes` here is another folder than `notes` there.
    named = str(Path(corpus).expanduser().resolve()) if Path(corpus).expanduser().exists() else corpus
    path = folder / "collections" / "".join(letter if letter.isalnum() else "-" for letter in named).strip("-")
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
