"""What stands between a version's folder and whatever reads it: its files are those of its manifest, to the byte.

A flipped byte in a file that nobody hashed gives wrong answers in silence, or makes FAISS allocate gigabytes. So every
byte is hashed before the first is used, by all cores: .14 s for 300 MB on two of them (bench/LOG.md).
"""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import CollectionError
from ..models.artifact import FileRecord
from ..platform.durable_io import sha256
from .manifest import DELETED, FIRST, MANIFEST, CollectionManifest, SegmentRecord


def check_files(folder: Path, manifest: CollectionManifest, known: Container[str] = ()) -> None:
    """Raises CollectionError unless `folder` holds the files of its manifest and no others, each as it was written.

    Hidden files are passed over: nothing reads them, and file systems leave some.
    known: segments that were checked and whose files are open: only their names and sizes are looked at. A version has
    hard links of the files of the one before it.
    """
    _check_names(folder, manifest)
    _check_contents(folder, _fresh(folder, manifest.segments, known))


def sound_segments(folder: Path, manifest: CollectionManifest) -> tuple[list[SegmentRecord], list[str]]:
    """The segments of a version whose files are as they were written, and what is wrong with the others, a sentence
    each. Raises CollectionError where a file is there that nothing vouches for."""
    _check_names(folder, manifest)
    sound: list[SegmentRecord] = []
    problems: list[str] = []
    for segment in manifest.segments:
        try:
            _check_contents(folder, _fresh(folder, [segment], ()))
        except CollectionError as error:
            problems.append(str(error))
        else:
            sound.append(segment)
    return sound, problems


def _fresh(folder: Path, segments: Sequence[SegmentRecord], known: Container[str]) -> dict[str, FileRecord]:
    """The files that are to be hashed, each of its size; raises CollectionError where one is not."""
    fresh: dict[str, FileRecord] = {}
    for segment in segments:
        for name, record in segment.files.items():
            file = folder / segment.name / name
            if not file.is_file():
                raise CollectionError(f"{file} is missing; index again")
            # A file that is too short would end the process with SIGBUS when its missing part is touched.
            if file.stat().st_size != record.size:
                raise CollectionError(
                    f"{file} has {file.stat().st_size} bytes, its manifest says {record.size}; index again"
                )
            if segment.name not in known or name == DELETED:
                fresh[f"{segment.name}/{name}".removeprefix("/")] = record
    return fresh


def _check_names(folder: Path, manifest: CollectionManifest) -> None:
    own = {segment.name for segment in manifest.segments if segment.name}
    for segment in manifest.segments:
        for name in (*segment.files, *filter(None, [segment.name])):
            if Path(name).name != name or name == "..":
                raise CollectionError(f"{folder / MANIFEST} names {name!r}, which lies outside the version's folder")
        _check_entries(folder / segment.name, {MANIFEST, *own, *segment.files} if not segment.name else segment.files)
    if FIRST not in {segment.name for segment in manifest.segments}:
        _check_entries(folder, {MANIFEST, *own})


def _check_entries(folder: Path, named: Container[str]) -> None:
    for entry in [folder, *(folder.iterdir() if folder.is_dir() else ())]:
        if entry.is_symlink():
            raise CollectionError(
                f"{entry} is a link; a collection holds plain files only, so copy the folder's contents"
            )
        if entry != folder and not entry.name.startswith(".") and entry.name not in named:
            raise CollectionError(
                f"{entry} is not among the files of the version's {MANIFEST}, so nothing vouches for it; move it away"
            )


def _check_contents(folder: Path, files: dict[str, FileRecord]) -> None:
    """Hash all files, the largest first, on every core."""

    def right(name: str) -> bool:
        try:
            return sha256(folder / name) == files[name].sha256
        except OSError as error:
            raise CollectionError(f"{folder / name} cannot be read ({error.strerror}); index again") from error

    largest_first = sorted(files, key=lambda name: -files[name].size)
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "tandem-hash")
    try:
        for name, as_written in zip(largest_first, pool.map(right, largest_first), strict=True):
            if not as_written:
                raise CollectionError(f"{folder / name} is damaged: its sha256 is not the manifest's; index again")
    finally:
        pool.shutdown(cancel_futures=True)
