"""A collection as it is at one moment, as a folder of its own: made while others search it and write it."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from ..errors import CollectionError
from ..models.artifact import Artifact
from ..platform.durable_io import rename, sha256, storage, sync_tree, write_durably
from . import fitted_weights, versions
from .changes import link_segment
from .collection import Collection
from .manifest import MANIFEST, CollectionManifest, CollectionModels, ModelRecord, numbered

HELD = ".snapshot"
"""In the collection's folder: the version's files while they are copied, so that no writer removes them."""
LOCK = "snapshot.lock"
MODELS = "models"
"""In a snapshot's folder: its artifacts, where they were wanted."""


def snapshot(root: Path, out: Path, *, with_models: bool = False) -> CollectionManifest:
    """Make the new folder `out` hold what the collection `root` holds now, and nothing of what is written later.

    Its files are hard links where both are on one file system, and take no space; else copies. Every file's hash is
    checked at the end. with_models: the artifacts are copied into it too, so that it can be moved alone; else it
    remembers where they are.

    Raises CollectionError when `root` holds no collection, `out` is there already or an artifact is not where it was,
    ArtifactError when one is damaged, StorageError when the disk refuses. Then there is no `out`.
    """
    if out.is_symlink() or out.exists():
        raise CollectionError(f"{out} is there already; give a new folder")
    if root.resolve() in out.resolve().parents:
        raise CollectionError(f"{out} lies in the collection itself; give a folder outside of it")
    partial = out.with_name(f".{out.name}.partial")
    held = root / HELD
    versions.current_pointer(root)  # before a lock makes the folder
    with versions.writer_lock(root, versions.WAIT, LOCK), storage(out):
        _clear(held, partial)
        try:
            with versions.writer_lock(root, versions.WAIT):
                manifest = versions.read_current(root)
                assert manifest is not None, "it was there a moment ago, and nothing removes it"
                manifest = _hold(root, manifest, held)
            partial.mkdir(parents=True)
            (partial / versions.VERSIONS).mkdir()
            _move(held, partial / versions.VERSIONS / manifest.version)
            if (root / fitted_weights.FILE).exists():
                shutil.copyfile(root / fitted_weights.FILE, partial / fitted_weights.FILE)
            models = _models(root, manifest.models, partial if with_models else None, out)
            _publish(partial, manifest.model_copy(update={"models": models, "parent": None}))
            rename(partial, out)
        finally:
            _clear(held, partial)
    return manifest


def _hold(root: Path, manifest: CollectionManifest, held: Path) -> CollectionManifest:
    """Links of a version's files in the folder `held`. The caller holds the writer's lock, for some ms."""
    source = root / versions.VERSIONS / manifest.version
    held.mkdir()
    segments = tuple(
        link_segment(source / record.name, held / (record.name or numbered(manifest.version)), record)
        for record in manifest.segments
    )
    return manifest.model_copy(update={"segments": segments})


def _move(held: Path, target: Path) -> None:
    try:
        held.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copytree(held, target)


def _publish(folder: Path, manifest: CollectionManifest) -> None:
    """Write the manifest and the pointer of a snapshot in `folder`, and read it as whoever opens it will."""
    data = manifest.to_bytes()
    write_durably(folder / versions.VERSIONS / manifest.version / MANIFEST, data)
    write_durably(folder / versions.CURRENT, versions.pointer_to(manifest.version, data))
    Collection.open(folder)
    sync_tree(folder)


def _models(root: Path, models: CollectionModels, copies: Path | None, out: Path) -> CollectionModels:
    """The models as seen from `out`; copied into the folder `copies`, which becomes `out`, if that is given."""

    def seen(record: ModelRecord) -> ModelRecord:
        if copies is None:
            return record.seen_from(out, root)
        artifact = (root / record.path).resolve()
        if not (artifact / MANIFEST).is_file():
            raise CollectionError(f"the model {record.name} is not at {artifact}: put it there, or leave models out")
        fingerprint = sha256(artifact / MANIFEST)
        if record is models.encoder and fingerprint != record.fingerprint:
            raise CollectionError(f"{artifact} is another model than {record.name}, with which {root} was indexed")
        place = f"{MODELS}/{fingerprint[:16]}"
        if not (copies / place).exists():
            shutil.copytree(artifact, copies / place)
            Artifact.open(copies / place).verify()
        return record.model_copy(update={"path": place})

    reranker = None if models.reranker is None else seen(models.reranker)
    return CollectionModels(encoder=seen(models.encoder), reranker=reranker)


def _clear(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
