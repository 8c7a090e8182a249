"""tandem index: a corpus → a collection."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from ..engine.recall.words import LANGUAGES
from .console import note, out, print_json, progress_bar
from .corpora import CORPUS, ENCODING, EXCLUDE, FIELD, ID_FIELD, INCLUDE, SKIP_BAD, TEXT_FIELD, TITLE_FIELD, typed
from .merge import merge_due

NAME = "index"
EXAMPLES = (
    "tandem index notes/ --encoder models/encoder --reranker models/reranker --out collection",
    "tandem index corpus.jsonl --text-field body --encoder models/encoder --out collection",
    "tandem index notes/ --include '*.md' --exclude 'drafts/*' --encoder models/encoder --out collection",
)
Wanted = Literal["auto", "fp32", "fp16", "int8"]


def command(
    corpus: str = CORPUS,
    encoder: Path = typer.Option(..., help="The folder of the bi-encoder, as `tandem export` made it."),
    reranker: Path | None = typer.Option(
        None, help="The folder of the cross-encoder; without one, hits are ordered by recall alone, until one is named."
    ),
    output: Path = typer.Option(..., "--out", help="The folder that becomes the collection."),
    include: list[str] = INCLUDE,
    exclude: list[str] = EXCLUDE,
    encoding: str | None = ENCODING,
    id_field: str | None = ID_FIELD,
    text_field: str = TEXT_FIELD,
    title_field: str = TITLE_FIELD,
    field: list[str] = FIELD,
    encode_title: bool = typer.Option(True, help="Put the title before the passage for the bi-encoder."),
    rerank_title: bool = typer.Option(True, help="Put the title before the passage for the cross-encoder."),
    chunk_tokens: int | None = typer.Option(
        None, help="Longest passage in tokens, 0 for whole documents (default: what both models read, at most 512)."
    ),
    overlap: int = typer.Option(32, help="Tokens that neighbouring passages of one document share."),
    language: str = typer.Option(
        "english",
        help="Language of the words that recall looks for beside the vectors: " + ", ".join(LANGUAGES[:-1]) + "; or "
        "other, for any other and for several at once: then the reranker's token ids are the words.",
    ),
    lexical: bool = typer.Option(True, help="Index the words too; off: recall is by vectors alone."),
    skip_bad: bool = SKIP_BAD,
    precision: Wanted = typer.Option("auto", help="Precision of the bi-encoder."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    threads: int | None = typer.Option(None, help="CPU threads (default: one a core)."),
    json_output: bool = typer.Option(False, "--json", help="One JSON line on stdout."),
) -> None:
    """Make a collection of your texts, ready for search: cut into passages, encoded, indexed.

    Run it again when the corpus has changed: only new and changed documents are encoded, and what is gone is no longer
    found. The new version appears whole or not at all; interrupted, the same call goes on where it stopped. With
    another --language or without words nothing is encoded.
    """
    from ..engine.build.indexing import index_corpus
    from ..engine.collection import Fields, Files, IndexSettings

    files = Files(corpus, tuple(include), tuple(exclude), encoding)
    fields = Fields(id=id_field, text=text_field, title=title_field, types=dict(map(typed, field)))
    settings = IndexSettings(
        chunk_tokens=chunk_tokens,
        overlap=overlap,
        encode_title=encode_title,
        rerank_title=rerank_title,
        language=language if lexical else None,
        skip_bad=skip_bad,
    )
    try:
        with progress_bar() as progress:
            report = index_corpus(
                files, output, encoder=encoder, reranker=reranker, precision=precision, device=device, threads=threads,
                fields=fields, settings=settings, progress=progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        note("interrupted: finished shards are kept, and the same command goes on from there")
        raise typer.Exit(130) from None
    for sentence in report.notes:
        note(sentence)
    if json_output:
        print_json(report.to_dict())
    elif report.unchanged:
        note(f"nothing changed: the collection is up to date; {report.summary()}")
    else:
        out().print(f"{output}: {report.summary()}")
    if not report.unchanged:
        merge_due(output, threads)
