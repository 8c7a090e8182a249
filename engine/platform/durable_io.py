"""The few file operations that durability hangs on, in one place, so that tests can crash at each of them."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from ..errors import StorageError

AT_ONCE = 16
"""Flushes that wait for the disk together."""


def read_small(path: Path, limit: int) -> bytes:
    """The bytes of a small plain file. Raises OSError when it is anything else, or longer than `limit` bytes.

    Never waits for a writer, as opening a FIFO would: somebody may have put one in the file's place.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a plain file", str(path))
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", str(path))
    return data


def sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Force a file's bytes to the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Force a folder's entries (creations, renames) to the disk."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def sync_tree(folder: Path) -> None:
    """Force a folder, the folders in it, and their files to the disk.

    A file that has another name already (a hard link) is passed over: it was forced there under that one.
    """
    with storage(folder):
        found = [path for path in folder.rglob("*") if path.is_dir() or path.stat().st_nlink == 1]
    sync_all([folder, *found])


def sync_all(paths: Sequence[Path]) -> None:
    """Force files and folders to the disk, many at once: a disk flushes for several as soon as for one."""
    with ThreadPoolExecutor(min(AT_ONCE, len(paths)), "tandem-sync") as pool:
        for _ in pool.map(lambda path: sync_folder(path) if path.is_dir() else sync_file(path), paths):
            pass


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file and force its bytes to the disk; the caller syncs the folder."""
    with storage(path), path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, data: bytes) -> None:
    """Swap a file's whole content: after a crash at any moment it is the old one or the new one."""
    fresh = path.with_name(path.name + ".tmp")
    write_durably(fresh, data)
    rename(fresh, path)


def rename(source: Path, target: Path) -> None:
    """Rename within one file system and force both folders' entries to the disk."""
    with storage(target):
        source.replace(target)
        sync_all(list({target.parent, source.parent}))


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while writing `path` into a StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def _sync(path: Path, flags: int) -> None:
    with storage(path):
        descriptor = os.open(path, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
