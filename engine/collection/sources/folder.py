"""The files of a folder: which are read, and which are passed over, by kind."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from ...errors import CorpusError
from ...models.artifact import MANIFEST
from .. import versions
from .kinds import Kind, ending_of, kind_of_file

BY_PATTERN = "by --include and --exclude"
EMPTY = "empty"
LINKED = "linked folder"
NO_FILE = "no plain file"


@dataclass(slots=True)
class Found:
    """Files with their paths in the folder, in their order; `passed_over` counts the others by kind.

    needed: for an ending that was passed over since a library is missing, what to install
    notes:  sentences on all that, made when the files were looked into
    """

    files: list[tuple[Path, str, Kind]] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    needed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find(folder: Path, include: tuple[str, ...], exclude: tuple[str, ...]) -> Found:
    """The files in `folder` that are read.

    Hidden files and folders are passed over and not counted, and so are collections and exported models: a collection
    may lie in the folder that it is made of. A link to a folder is not followed.

    A pattern with a / is for the path in the folder, and * goes beyond a / too; one without is for the name of the file
    or of any folder on the way to it. Raises CorpusError where a folder cannot be read.
    """
    found = Found()
    for path in sorted(_walk(folder, found.passed_over)):
        relative = path.relative_to(folder).as_posix()
        kind = kind_of_file(relative)
        if (include and not _matches(relative, include)) or _matches(relative, exclude):
            found.passed_over[BY_PATTERN] += 1
        elif not path.is_file():
            found.passed_over[NO_FILE] += 1
        elif kind is None:
            found.passed_over[ending_of(relative)] += 1
        elif kind.missing:
            found.passed_over[ending_of(relative)] += 1
            found.needed[ending_of(relative)] = kind.missing
        else:
            found.files.append((path, relative, kind))
    return found


def is_tandems(folder: Path) -> bool:
    """Whether a folder is a collection or an exported model."""
    collection = (folder / versions.CURRENT).is_file() and (folder / versions.VERSIONS).is_dir()
    unfinished = (folder / versions.LOCK).is_file() and (folder / versions.STAGING).is_dir()
    return collection or unfinished or ((folder / MANIFEST).is_file() and (folder / "tokenizer.json").is_file())


def told(verb: str, counts: Mapping[str, int]) -> str:
    """How many files were read or passed over, by kind, in a sentence; nothing where there were none."""
    if not counts:
        return ""
    total = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda item: (not item[0].startswith("."), -item[1], item[0]))
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in ordered)
    return f"{verb} {total:,} {'file' if total == 1 else 'files'}: {kinds}"


def _walk(folder: Path, passed_over: Counter[str]) -> Iterator[Path]:
    """Every file that is not hidden."""
    for root, folders, files in os.walk(folder, onerror=_refuse):
        for name in [name for name in folders if not name.startswith(".")]:
            inner = Path(root, name)
            linked = inner.is_symlink()
            passed_over.update([LINKED] if linked else [])
            if linked or is_tandems(inner):
                folders.remove(name)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in files if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise CorpusError(f"{error.filename} cannot be read: {error.strerror}") from error


def _matches(relative: str, patterns: tuple[str, ...]) -> bool:
    parts = PurePath(relative).parts
    return any(
        fnmatchcase(relative, pattern.removeprefix("./"))
        if "/" in pattern.rstrip("/")
        else any(fnmatchcase(part, pattern.rstrip("/")) for part in parts)
        for pattern in patterns
    )
