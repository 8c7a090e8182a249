"""From a collection to the artifacts it was indexed with."""

from __future__ import annotations

import os
from pathlib import Path

from ..collection import Collection, ModelRecord
from ..errors import ArtifactError, CollectionError
from ..models.artifact import Artifact, Kind


def artifact_of(collection: Collection, record: ModelRecord, given: str | Path | None, kind: Kind) -> Artifact:
    """The artifact a collection's manifest names, looked for at `given` or where the collection remembers it.

    Raises CollectionError when it is not there or is another model: vectors and token ids of one model mean nothing to
    another.
    """
    path = Path(given) if given is not None else Path(os.path.normpath(collection.path / record.path))
    option = "encoder" if kind == "bi-encoder" else "reranker"
    try:
        artifact = Artifact.open(path, kind=kind)
    except ArtifactError as error:
        if path.exists():
            raise
        raise CollectionError(
            f"{collection.path} was indexed with the {kind} {record.name}, which is not at {path}; "
            f"say where it is with {option}=FOLDER"
        ) from error
    if artifact.fingerprint != record.fingerprint:
        raise CollectionError(
            f"{path} is not the {kind} that {collection.path} was indexed with ({record.name}, manifest sha256 "
            f"{record.fingerprint[:12]}, found {artifact.fingerprint[:12]}); index again, or give the right {option}"
        )
    return artifact
