"""tandem delete: documents out of a collection."""

from __future__ import annotations

from pathlib import Path

import typer

from ..engine.errors import InputError
from .console import out, print_json
from .merge import merge_due
from .search import parsed_filter

NAME = "delete"
EXAMPLES = ("tandem delete collection notes/old.md notes/older.md", 'tandem delete collection --filter "year<2000"')


def command(
    collection: Path = typer.Argument(help="The folder that `tandem index` made."),
    ids: list[str] = typer.Argument(None, help="Ids of documents; those of a folder of texts are its files' names."),
    filters: list[str] = typer.Option(
        [], "--filter", help="All documents whose metadata has KEY=VALUE (see `tandem search`); repeat to narrow down."
    ),
    json_output: bool = typer.Option(False, "--json", help="One JSON line on stdout."),
) -> None:
    """Delete documents, by their ids or by their metadata.

    They are not found from then on; the space that they take comes back when their segment is merged.
    """
    from ..engine.collection.filters import parse
    from ..engine.collection.updating import delete

    if not ids and not filters:
        raise InputError("name documents to delete by their ids, or by --filter")
    found = parse({"$and": [parsed_filter(text) for text in filters]}) if filters else None
    report, _ = delete(collection, ids or [], found)
    if json_output:
        print_json(report.to_dict())
    else:
        out().print(f"{collection}: {report.summary()}")
    merge_due(collection)
