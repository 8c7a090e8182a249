"""The JSON files of a model's repository, and the pointers that stand where a file was not fetched."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...engine.errors import ExportError

LFS = b"version https://git-lfs"
# A pointer of git-lfs has about 130 bytes.
_POINTER = 1024


def read_json(folder: Path, name: str) -> dict[str, Any] | None:
    """The object in `folder/name`, or None when there is no such file; raises ExportError when it is not one."""
    value = _read(folder, name)
    if value is not None and not isinstance(value, dict):
        raise ExportError(f"{folder / name} holds no JSON object; take a complete copy of the model")
    return value


def read_list(folder: Path, name: str) -> list[dict[str, Any]] | None:
    """The list of objects in `folder/name`, or None when there is no such file; raises ExportError otherwise."""
    value = _read(folder, name)
    if value is not None and not (isinstance(value, list) and all(isinstance(item, dict) for item in value)):
        raise ExportError(f"{folder / name} holds no list of JSON objects; take a complete copy of the model")
    return value


def refuse_pointers(paths: Iterable[Path]) -> None:
    """Raises ExportError when one of the files `paths` is a pointer of git-lfs and not what it stands for."""
    for path in paths:
        if path.is_file() and path.stat().st_size < _POINTER and path.read_bytes().startswith(LFS):
            raise ExportError(
                f"{path} is a pointer of git-lfs and not the file; fetch the files (git lfs pull), or give the Hub id"
            )


def _read(folder: Path, name: str) -> Any:
    path = folder / name
    if not path.is_file():
        return None
    refuse_pointers([path])
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ExportError(f"{path} is not JSON ({error}); take a complete copy of the model") from error
