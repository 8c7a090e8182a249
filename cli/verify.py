"""tandem verify: is this artifact, or collection, still what its manifest says?"""

from __future__ import annotations

from pathlib import Path

import typer

from .console import note, out

NAME = "verify"


def command(folder: Path = typer.Argument(help="An artifact's or a collection's folder.")) -> None:
    """Hash every file against the manifest; for an artifact, run each graph and compare the variants as well."""
    from ..engine.collection import Collection
    from ..engine.models.artifact import MANIFEST

    if (folder / MANIFEST).exists():
        from ..export import verify_artifact

        verify_artifact(folder, progress=note)
    else:
        Collection.open(folder).verify()
    out().print(f"{folder}: every file is what its manifest says")
