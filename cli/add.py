"""tandem add: documents into a collection that is there."""

from __future__ import annotations

from pathlib import Path

import typer

from .console import note, out, print_json, progress_bar
from .corpora import CORPUS, ENCODING, EXCLUDE, FIELD, ID_FIELD, INCLUDE, SKIP_BAD, TEXT_FIELD, TITLE_FIELD, typed
from .merge import merge_due

NAME = "add"
EXAMPLES = ("tandem add collection new-notes/", "tandem add collection more.jsonl --text-field body")


def command(
    collection: Path = typer.Argument(help="The folder that `tandem index` made."),
    corpus: str = CORPUS,
    encoder: Path | None = typer.Option(
        None, help="Where the collection's bi-encoder is now, if it was moved.", envvar="TANDEM_ENCODER"
    ),
    reranker: Path | None = typer.Option(
        None, help="Where its cross-encoder is now, if it was moved.", envvar="TANDEM_RERANKER"
    ),
    include: list[str] = INCLUDE,
    exclude: list[str] = EXCLUDE,
    encoding: str | None = ENCODING,
    id_field: str | None = ID_FIELD,
    text_field: str = TEXT_FIELD,
    title_field: str = TITLE_FIELD,
    field: list[str] = FIELD,
    skip_bad: bool = SKIP_BAD,
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    threads: int | None = typer.Option(None, help="CPU threads (default: one a core)."),
    json_output: bool = typer.Option(False, "--json", help="One JSON line on stdout."),
) -> None:
    """Add documents to a collection; one whose id is there replaces what is there, all others stay.

    To make a collection follow a corpus, with what is gone from it, run `tandem index` again: it encodes only what is
    new, too. A server that serves the collection moves to the new version by itself.
    """
    from ..engine.build.adding import add_corpus
    from ..engine.collection import Fields, Files

    files = Files(corpus, tuple(include), tuple(exclude), encoding)
    fields = Fields(id=id_field, text=text_field, title=title_field, types=dict(map(typed, field)))
    try:
        with progress_bar() as progress:
            report = add_corpus(
                collection, files, encoder=encoder, reranker=reranker, device=device, threads=threads,
                fields=fields, skip_bad=skip_bad, progress=progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        note("interrupted: nothing was added; the same command goes on from what is encoded")
        raise typer.Exit(130) from None
    if json_output:
        print_json(report.to_dict())
    else:
        out().print(f"{collection}: {report.summary()}")
    merge_due(collection)
