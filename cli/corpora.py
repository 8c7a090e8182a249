"""The options that say what a corpus is, for every command that reads one."""

from __future__ import annotations

from typing import get_args

import typer

from ..engine.collection.document import FieldType
from ..engine.errors import InputError

CORPUS = typer.Argument(
    help="A file (.md .txt .rst .html .csv .tsv .json .jsonl .ndjson .parquet .pdf .docx, each also with .gz), a "
    "folder of such files or of a BEIR data set, or python:NAME,… for the documentation strings of packages "
    "(python:stdlib)."
)
INCLUDE = typer.Option([], help="Only files of the folder that match, by name (*.md) or by path (guides/*); repeat.")
EXCLUDE = typer.Option([], help="No files of the folder that match, by name or by path; repeat.")
ENCODING = typer.Option(None, help="Encoding of the text files, as cp1252 or shift_jis (default: told by their bytes).")
ID_FIELD = typer.Option(
    None, help="Of rows: the field with the id (default: _id or id, or else the hash of text and title)."
)
TEXT_FIELD = typer.Option("text", help="The field with the text.")
TITLE_FIELD = typer.Option("title", help="The field with the title.")
FIELD = typer.Option(
    [], help="NAME:TYPE, for metadata of another type than it has: text, number, boolean or date; repeat."
)
SKIP_BAD = typer.Option(False, help="Skip lines that cannot be read, and count them.")


def typed(written: str) -> tuple[str, FieldType]:
    """`year:number` as a field and its type; raises InputError."""
    name, _, wanted = written.rpartition(":")
    for kind in get_args(FieldType):
        if name and wanted == kind:
            return name, kind
    raise InputError(f"--field {written}: write NAME:TYPE, the type one of {', '.join(get_args(FieldType))}")
