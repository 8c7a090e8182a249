"""From a collection to the artifacts that search it: the encoder it was indexed with, and any reranker."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ..collection import Collection, ModelRecord
from ..errors import ArtifactError, CollectionError
from ..models.artifact import Artifact, Kind

log = logging.getLogger(__name__)


def encoder_of(collection: Collection, given: str | Path | None) -> Artifact:
    """The bi-encoder that `collection` was indexed with, looked for at `given` or where the collection remembers it.

    Raises CollectionError when it is not there or is another model: vectors of one model mean nothing to another.
    """
    record = collection.manifest.models.encoder
    artifact = (
        _remembered(collection, record, "bi-encoder") if given is None else Artifact.open(given, kind="bi-encoder")
    )
    if artifact.fingerprint != record.fingerprint:
        raise CollectionError(
            f"{artifact.path} is not the bi-encoder that {collection.path} was indexed with ({record.name}, manifest "
            f"sha256 {record.fingerprint[:12]}, found {artifact.fingerprint[:12]}); give the right encoder, or index "
            "again, since vectors of one model mean nothing to another"
        )
    return artifact


def reranker_of(collection: Collection, given: str | Path | None) -> Artifact | None:
    """The cross-encoder at `given`, whichever it is; else the collection's own, where it remembers it.

    None: it has none. Raises CollectionError when its own is not there.
    """
    if given is not None:
        return Artifact.open(given, kind="cross-encoder")
    record = collection.manifest.models.reranker
    if record is None:
        return None
    artifact = _remembered(collection, record, "cross-encoder")
    if artifact.fingerprint != record.fingerprint:
        log.warning(
            "%s is another model now than when %s was indexed with it; it is used", artifact.path, collection.path
        )
    return artifact


def _remembered(collection: Collection, record: ModelRecord, kind: Kind) -> Artifact:
    path = Path(os.path.normpath(collection.path / record.path))
    try:
        return Artifact.open(path, kind=kind)
    except ArtifactError as error:
        if path.exists():
            raise
        option = "encoder" if kind == "bi-encoder" else "reranker"
        raise CollectionError(
            f"{collection.path} was indexed with the {kind} {record.name}, which is not at {path}; "
            f"say where it is with {option}=FOLDER" + ("" if kind == "bi-encoder" else ", or name another reranker so")
        ) from error
