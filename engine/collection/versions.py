"""Versions: immutable folders, one pointer; a crash at any moment leaves the old version or the new one, never a mix.

CURRENT          {"version", "manifest_sha256"}: the only file that is ever replaced when a version is published
versions/<id>/   manifest.json and the files it names; never changed once it is here
staging/         a writer's private area
writer.lock      held by the one writer
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from ..errors import CollectionError, StorageError
from ..platform.durable_io import read_small, rename, replace_durably, storage, sync_folder, sync_tree
from .manifest import MANIFEST, CollectionManifest, numbered

CURRENT = "CURRENT"
VERSIONS = "versions"
STAGING = "staging"
LOCK = "writer.lock"
T = TypeVar("T")
WAIT = 30.0
"""Seconds that a change waits for another writer."""
LOOK_AGAIN = 0.01
"""Seconds between looks at a lock that somebody has."""
RUBBISH = "removed-"
POINTER_BYTES = 10_000
"""A pointer has some 120 bytes."""
MANIFEST_BYTES = 10_000_000
"""A manifest has some 6 kB a segment."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """What CURRENT says."""

    version: str
    manifest_sha256: str


def read_pointer(root: Path) -> Pointer | None:
    """The pointer of the collection `root`, None where nothing was published yet.

    Raises CollectionError when the file is there and is not a pointer.
    """
    path = root / CURRENT
    if path.is_symlink():
        raise CollectionError(f"{path} is a link; a collection holds plain files only, so copy the folder's contents")
    try:
        fields = json.loads(read_small(path, POINTER_BYTES))
        pointer = Pointer(fields["version"], fields["manifest_sha256"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CollectionError(f"{path} cannot be read ({error.strerror}); index the corpus again") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CollectionError(f"{path} is damaged ({error}); index the corpus again") from error
    if not isinstance(pointer.version, str) or Path(pointer.version).name != pointer.version:
        raise CollectionError(f"{path} is damaged: {pointer.version!r} is no version's name; index the corpus again")
    return pointer


def pointer_to(version: str, manifest: bytes) -> bytes:
    """What CURRENT holds for a version with this manifest."""
    pointer = {"version": version, "manifest_sha256": hashlib.sha256(manifest).hexdigest()}
    return (json.dumps(pointer) + "\n").encode()


def current_pointer(root: Path) -> Pointer:
    """The pointer of the collection `root`; raises CollectionError where there is no collection, or it is damaged."""
    pointer = read_pointer(root)
    if pointer is None:
        what = "holds no collection" if root.is_dir() else "is not a folder"
        raise CollectionError(f"{root} {what}; make one with `tandem index CORPUS --out {root}`")
    return pointer


def read_current(root: Path) -> CollectionManifest | None:
    """The current version's manifest, None where nothing was published yet; raises CollectionError when damaged."""
    pointer = read_pointer(root)
    if pointer is None:
        return None
    return read_manifest(root / VERSIONS / pointer.version, pointer.manifest_sha256)


def read_manifest(folder: Path, expected: str | None) -> CollectionManifest:
    """The manifest of a version's folder, whose sha256 must be `expected` (None: any); raises CollectionError."""
    path = folder / MANIFEST
    if folder.is_symlink() or path.is_symlink():
        raise CollectionError(f"{path} is reached through a link; a collection holds plain files only")
    try:
        data = read_small(path, MANIFEST_BYTES)
    except OSError as error:
        raise CollectionError(f"{path} cannot be read ({error.strerror}); index again") from error
    if expected is not None and hashlib.sha256(data).hexdigest() != expected:
        raise CollectionError(f"{path} is not the manifest that {CURRENT} was published with; index again")
    try:
        return CollectionManifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise CollectionError(f"{path} is not one this version reads ({where}: {first['msg']}); index again") from error


@contextmanager
def writer_lock(root: Path, wait: float = 0.0, name: str = LOCK) -> Iterator[None]:
    """Hold the collection against other writers; the lock goes with the process, so none is ever left behind.

    wait: seconds that another writer is waited for; name: what is held, of the collection's files
    Raises StorageError when another one is still writing then.
    """
    with storage(root):
        root.mkdir(parents=True, exist_ok=True)
        file = (root / name).open("wb")
    deadline = time.monotonic() + wait
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise StorageError(f"another process is writing {root}; wait until it is done") from error
                time.sleep(LOOK_AGAIN)
        yield


def publish(root: Path, folder: Path, manifest: CollectionManifest, check: Callable[[Path], T]) -> T:
    """Make the finished files in `folder` the collection's current version, once all of them are on the disk.

    `check` opens the version as a reader would, before the pointer moves to it. The caller holds the writer lock.
    Returns what `check` does; raises StorageError, or whatever `check` raises, with the old version still current.
    """
    target = root / VERSIONS / manifest.version
    with storage(target):
        target.parent.mkdir(exist_ok=True)
    discard(root, target)  # left by a crash between the two renames below: nothing points at it
    data = manifest.to_bytes()
    with storage(folder):
        (folder / MANIFEST).write_bytes(data)
    sync_tree(folder)
    sync_folder(root)
    rename(folder, target)
    checked = check(target)
    replace_durably(root / CURRENT, pointer_to(manifest.version, data))
    return checked


def tidy(root: Path, manifest: CollectionManifest) -> None:
    """Remove what the published `manifest` made useless: all versions but it and its parent, which readers may still be
    moving away from, and of the staging area all but the shards of interrupted jobs that are to follow it.
    """
    for folder in sorted((root / VERSIONS).iterdir()):
        if folder.name not in (manifest.version, manifest.parent):
            discard(root, folder)
    staging = root / STAGING
    if not staging.exists():
        return
    with storage(staging):
        for folder in staging.iterdir():
            if not folder.name.startswith(f"{numbered(manifest.version)}-"):
                shutil.rmtree(folder)
        if not any(staging.iterdir()):
            staging.rmdir()


def discard(root: Path, folder: Path) -> None:
    """Remove a folder; it leaves its place whole, so that no half of it is ever taken for the whole."""
    if not folder.exists():
        return
    rubbish = root / STAGING / f"{RUBBISH}{os.getpid()}"
    with storage(rubbish):
        rubbish.parent.mkdir(exist_ok=True)
        shutil.rmtree(rubbish, ignore_errors=True)
    rename(folder, rubbish)
    with storage(rubbish):
        shutil.rmtree(rubbish)
