"""tandem verify: is this artifact, or collection, still what its manifest says?"""

from __future__ import annotations

from pathlib import Path

import typer

from .console import note, out, waiting

NAME = "verify"
EXAMPLES = (
    "tandem verify models/encoder",
    "tandem verify collection",
)


def command(folder: Path = typer.Argument(help="An artifact's or a collection's folder.")) -> None:
    """Check that nothing is damaged: every file against its manifest; for a model, each precision is run as well."""
    from ..engine.collection import Collection
    from ..engine.models.artifact import MANIFEST

    if (folder / MANIFEST).exists():
        from ..export import verify_artifact

        with waiting("hashing the files and running each graph"):
            verify_artifact(folder, progress=note)
    else:
        with waiting("hashing the files"):
            Collection.open(folder)
    out().print(f"{folder}: every file is what its manifest says")
