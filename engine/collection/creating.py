"""An empty collection, for documents that are added later; and the end of one."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import CollectionError
from ..platform.durable_io import rename, storage
from . import assemble, versions
from .collection import Collection
from .manifest import CollectionManifest, CollectionModels, Counts, digest
from .merging import LOCK as MERGE_LOCK
from .shards import BuildJob


def create_like(like: Path, out: Path) -> CollectionManifest:
    """A collection in the new or empty folder `out` without a document, with the models and settings of another.

    Raises CollectionError when there is something in `out` already, but what making one left that was ended;
    StorageError when the disk refuses.
    """
    if out.is_symlink() or (out.exists() and (not out.is_dir() or not _unfinished(out))):
        raise CollectionError(f"{out} is there already; give the name of a new collection")
    pattern = Collection.open(like)
    with versions.writer_lock(out):
        if versions.read_pointer(out) is not None:  # made by somebody else meanwhile
            raise CollectionError(f"{out} is there already; give the name of a new collection")
        key = digest("create", pattern.manifest.job)
        job = BuildJob(out / versions.STAGING, None, key)
        models = pattern.manifest.models
        fresh: dict[str, object] = {
            "version": assemble.next_version(None, key), "parent": None, "corpus": None, "source": "",
            "field_types": {}, "counts": Counts(documents=0, passages=0, skipped=0), "segments": (),
            "models": CollectionModels(
                encoder=models.encoder.seen_from(out, like),
                reranker=None if models.reranker is None else models.reranker.seen_from(out, like),
            ),
        }  # fmt: skip
        manifest = pattern.manifest.model_copy(update=fresh)
        versions.publish(out, job.assembly(), manifest, assemble.check)
        versions.tidy(out, manifest)
    return manifest


def _unfinished(folder: Path) -> bool:
    """Whether nothing is in there, or what `create_like` leaves when it is ended before it publishes."""
    return {path.name for path in folder.iterdir()} <= {versions.LOCK, versions.STAGING, versions.VERSIONS}


def drop_collection(root: Path) -> None:
    """Remove a collection from the disk, whole or not at all; who has it open goes on until it closes it.

    Raises CollectionError where there is none, StorageError when another process writes it or the disk refuses.
    """
    if root.is_symlink():
        raise CollectionError(f"{root} is a link; remove what it points to")
    versions.current_pointer(root)  # before a lock makes the folder
    gone = root.with_name(f".{root.name}.dropped")
    with versions.writer_lock(root, versions.WAIT, MERGE_LOCK), versions.writer_lock(root, versions.WAIT):
        with storage(gone):
            shutil.rmtree(gone, ignore_errors=True)
        rename(root, gone)
    with storage(gone):
        shutil.rmtree(gone)
