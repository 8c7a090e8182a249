"""tandem snapshot: a collection as it is now, as a folder of its own."""

from __future__ import annotations

from pathlib import Path

import typer

from .console import out as console
from .console import print_json

NAME = "snapshot"
EXAMPLES = (
    "tandem snapshot collection backup/monday",
    "tandem snapshot collection /mnt/usb/notes --with-models",
)


def command(
    collection: Path = typer.Argument(help="The folder that `tandem index` made."),
    out: Path = typer.Argument(help="The new folder."),
    with_models: bool = typer.Option(
        False, help="Copy the models into it too, so that it can be moved to another machine alone."
    ),
    json_output: bool = typer.Option(False, "--json", help="One JSON line on stdout."),
) -> None:
    """Copy a collection as it is now, while it is served and written.

    On the same file system it takes no space: files are shared, and never change. The copy is a collection like any
    other.
    """
    from ..engine.collection.snapshot import snapshot

    manifest = snapshot(collection, out, with_models=with_models)
    counts = manifest.counts
    if json_output:
        told = {"path": str(out), "version": manifest.version, "documents": counts.documents}
        print_json({**told, "passages": counts.passages})
    else:
        console().print(f"{out}: {counts.passages:,} passages of {counts.documents:,} documents")
