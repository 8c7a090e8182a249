"""tandem index: a corpus → a collection."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import typer

from ..engine.collection.document import FieldType
from ..engine.errors import InputError
from ..engine.recall.words import LANGUAGES
from .console import note, out, print_json, progress_bar

NAME = "index"
EXAMPLES = (
    "tandem index notes/ --encoder models/encoder --reranker models/reranker --out collection",
    "tandem index corpus.jsonl --text-field body --encoder models/encoder --out collection",
    "tandem index notes/ --include '*.md' --exclude 'drafts/*' --encoder models/encoder --out collection",
)
Wanted = Literal["auto", "fp32", "fp16", "int8"]


def command(
    corpus: str = typer.Argument(
        help="A file (.md .txt .rst .html .csv .tsv .json .jsonl .ndjson .parquet .pdf .docx, each also with .gz), a "
        "folder of such files or of a BEIR data set, or python:NAME,… for the documentation strings of packages "
        "(python:stdlib)."
    ),
    encoder: Path = typer.Option(..., help="The folder of the bi-encoder, as `tandem export` made it."),
    reranker: Path | None = typer.Option(
        None, help="The folder of the cross-encoder; without one, hits are ordered by recall alone, until one is named."
    ),
    output: Path = typer.Option(..., "--out", help="The folder that becomes the collection."),
    include: list[str] = typer.Option(
        [], help="Only files of the folder that match, by name (*.md) or by path (guides/*); repeat."
    ),
    exclude: list[str] = typer.Option([], help="No files of the folder that match, by name or by path; repeat."),
    encoding: str | None = typer.Option(
        None, help="Encoding of the text files, as cp1252 or shift_jis (default: told by their bytes)."
    ),
    id_field: str | None = typer.Option(
        None, help="Of rows: the field with the id (default: _id or id, or else the hash of text and title)."
    ),
    text_field: str = typer.Option("text", help="The field with the text."),
    title_field: str = typer.Option("title", help="The field with the title."),
    field: list[str] = typer.Option(
        [], help="NAME:TYPE, for metadata of another type than it has: text, number, boolean or date; repeat."
    ),
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
    skip_bad: bool = typer.Option(False, help="Skip lines that cannot be read, and count them."),
    shard_size: int = typer.Option(4096, help="Passages encoded and kept together: what an interruption can lose."),
    precision: Wanted = typer.Option("auto", help="Precision of the bi-encoder."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    threads: int | None = typer.Option(None, help="CPU threads (default: one a core)."),
    json_output: bool = typer.Option(False, "--json", help="One JSON line on stdout."),
) -> None:
    """Make a collection of your texts, ready for search: cut into passages, encoded, indexed.

    The new version appears whole or not at all. Interrupted, it goes on where it stopped when it is called again; with
    nothing changed, it does nothing. With another --language or without words it makes a new version and encodes
    nothing.
    """
    from ..engine.build.indexing import index_corpus
    from ..engine.collection import Fields, Files, IndexSettings

    files = Files(corpus, tuple(include), tuple(exclude), encoding)
    fields = Fields(id=id_field, text=text_field, title=title_field, types=dict(map(_typed, field)))
    settings = IndexSettings(
        chunk_tokens=chunk_tokens,
        overlap=overlap,
        encode_title=encode_title,
        rerank_title=rerank_title,
        language=language if lexical else None,
        skip_bad=skip_bad,
        shard_size=shard_size,
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
        return
    if report.unchanged:
        note("nothing changed: the collection is up to date")
    out().print(f"{output}: {report.summary()}")


def _typed(written: str) -> tuple[str, FieldType]:
    """`year:number` as a field and its type; raises InputError."""
    name, _, wanted = written.rpartition(":")
    for kind in get_args(FieldType):
        if name and wanted == kind:
            return name, kind
    raise InputError(f"--field {written}: write NAME:TYPE, the type one of {', '.join(get_args(FieldType))}")
