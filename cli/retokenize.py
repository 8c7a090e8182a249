"""tandem retokenize: another reranker for a collection."""

from __future__ import annotations

from pathlib import Path

import typer

from .console import note, out, print_json, progress_bar

NAME = "retokenize"
EXAMPLES = ("tandem retokenize collection --reranker models/other-reranker",)


def command(
    collection: Path = typer.Argument(help="The collection's folder."),
    reranker: Path = typer.Option(..., help="The folder of the cross-encoder that the collection is to have."),
    json_output: bool = typer.Option(False, "--json", help="One JSON line on stdout."),
) -> None:
    """Give a collection another reranker: its passages are tokenised for it once, and nothing is encoded again.

    The new version appears whole or not at all. Without this, --reranker of search, serve and eval takes any
    cross-encoder too; one with another tokenizer then tokenises passages in every search.
    """
    from ..engine.build.retokenize import retokenize

    try:
        with progress_bar() as progress:
            report = retokenize(collection, reranker, progress=progress)
    except KeyboardInterrupt:
        note("interrupted: the collection is as it was; the same command starts anew")
        raise typer.Exit(130) from None
    if json_output:
        print_json(report.to_dict())
    else:
        out().print(f"{collection}: {report.summary()}")
