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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import CollectionError, StorageError
from ..platform.durable_io import read_small, rename, replace_durably, storage, sync_folder, write_durably
from .manifest import MANIFEST, CollectionManifest

CURRENT = "CURRENT"
VERSIONS = "versions"
STAGING = "staging"
LOCK = "writer.lock"
RUBBISH = "removed-"
POINTER_BYTES = 10_000
"""A pointer has some 120 bytes."""


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


@contextmanager
def writer_lock(root: Path) -> Iterator[None]:
    """Hold the collection against other writers; the lock goes with the process, so none is ever left behind.

    Raises StorageError when another process is writing.
    """
    with storage(root):
        root.mkdir(parents=True, exist_ok=True)
        file = (root / LOCK).open("wb")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(f"another process is writing {root}; wait until it is done") from error
        yield


def publish(root: Path, folder: Path, manifest: CollectionManifest, check: Callable[[Path], object]) -> Path:
    """Make the finished files in `folder` (each already forced to the disk) the collection's current version.

    `check` opens the version as a reader would, before the pointer moves to it. The caller holds the writer lock.
    Returns the version's folder; raises StorageError, or whatever `check` raises, with the old version still current.
    """
    target = root / VERSIONS / manifest.version
    with storage(target):
        target.parent.mkdir(exist_ok=True)
    sync_folder(root)
    discard(root, target)  # left by a crash between the two renames below: nothing points at it
    data = manifest.to_bytes()
    write_durably(folder / MANIFEST, data)
    sync_folder(folder)
    rename(folder, target)
    check(target)
    pointer = {"version": manifest.version, "manifest_sha256": hashlib.sha256(data).hexdigest()}
    replace_durably(root / CURRENT, (json.dumps(pointer) + "\n").encode())
    return target


def tidy(root: Path, manifest: CollectionManifest, finished: Path | None = None) -> None:
    """Remove what the published `manifest` made useless: all versions but it and its parent, which readers may still be
    moving away from, and the folder `finished` in the staging area, or (None) all of that area.
    """
    for folder in sorted((root / VERSIONS).iterdir()):
        if folder.name not in (manifest.version, manifest.parent):
            discard(root, folder)
    staging = root / STAGING
    if not staging.exists():
        return
    with storage(staging):
        for folder in staging.iterdir():
            if finished is None or folder == finished or folder.name.startswith(RUBBISH):
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
