"""tandem calibrate: fit the weights of the first stage to a collection's own judged questions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer

from .console import note, out, print_json, progress_bar
from .options import ENCODER, RERANKER

NAME = "calibrate"
EXAMPLES = (
    "tandem calibrate collection beir-folder",
    "tandem calibrate collection --reset",
)


def command(
    collection: Path = typer.Argument(help="The collection's folder."),
    beir: Path | None = typer.Argument(None, help="A folder with queries.jsonl[.gz] and qrels/<split>.tsv[.gz]."),
    split: str | None = typer.Option(None, help="The qrels' split, where there are several."),
    sample: int = typer.Option(500, min=1, help="Questions to fit on at most, drawn with a fixed seed."),
    encoder: Path | None = typer.Option(None, help=ENCODER, envvar="TANDEM_ENCODER"),
    reranker: Path | None = typer.Option(None, help=RERANKER, envvar="TANDEM_RERANKER"),
    reset: bool = typer.Option(
        False, help="Forget the collection's own weight: the reranker's fitted one applies again."
    ),
    json_output: bool = typer.Option(False, "--json", help="One JSON line on stdout."),
) -> None:
    """Fit the final order and the relevance of hits to judged questions, and keep them with the collection."""
    from ..engine import Collection, Engine
    from ..engine.build.calibrate import calibrate
    from ..engine.collection import forget_fusion

    if reset:
        Collection.open(collection)  # refuses a folder that is none
        forget_fusion(collection)
        out().print(f"{collection}: the reranker's own weight applies")
        return
    if beir is None:
        raise typer.BadParameter("give a BEIR folder with judged questions, or --reset")
    with Engine.open(collection, encoder=encoder, reranker=reranker) as engine, progress_bar() as progress:
        found = calibrate(engine, beir, split=split, sample=sample, progress=progress)
    if json_output:
        print_json(asdict(found) | {"fusion": found.fusion.model_dump()})
        return
    how = "kept, since no others are clearly better" if found.kept else "fitted"
    out().print(
        f"{collection}: recall weight {found.fusion.recall_weight:.2f}, "
        f"lexical weight {found.fusion.lexical_weight:g}, {how} on {found.questions} questions; "
        f"nDCG@10 {found.before:.3f} → {found.after:.3f} (recall alone {found.recall:.3f})"
    )
    if found.fusion.enough is not None:
        note(f"for a balanced search the {found.fusion.enough} candidates with the best evidence are enough")
    if found.doubt is not None:
        note(found.doubt)
