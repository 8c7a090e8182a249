"""Where a model comes from: a bundled name, a local folder or the Hugging Face Hub; and what is refused at the door."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...engine.errors import ExportError
from ...engine.models.artifact import Kind
from ..bundled import BUNDLED

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
# What an export reads; a repository's other weights (PyTorch, TensorFlow, ONNX of somebody else) stay where they are.
HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "1_Pooling/*"]


@dataclass(frozen=True, slots=True)
class Origin:
    """A model's folder on this machine, and the adapter to merge into it."""

    name: str
    folder: Path
    revision: str | None = None
    adapter: Path | None = None


def resolve(source: str, kind: Kind, *, revision: str | None, adapter: Path | None) -> Origin:
    """The folder behind `source`: a bundled name, an existing folder, or else a Hub id (downloaded or from its cache).

    Raises ExportError when there is no such model, or when its files could run code.
    """
    if source in BUNDLED:
        bundled = BUNDLED[source]
        if adapter is None and kind != bundled.kind:
            raise ExportError(f"{source} is a {bundled.kind}; export it with --as {bundled.kind}")
        origin = Origin(source, bundled.folder(), None, adapter or bundled.adapter)
    elif source and Path(source).is_dir():
        origin = Origin(Path(source).resolve().name, Path(source), revision, adapter)
    elif HUB_ID.fullmatch(source):
        folder, commit = _download(source, revision)
        origin = Origin(source, folder, commit, adapter)
    else:
        raise ExportError(f"{source!r} is neither a folder nor a Hugging Face id nor one of {', '.join(BUNDLED)}")
    _refuse_code(origin)
    return origin


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


def _read(folder: Path, name: str) -> Any:
    path = folder / name
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportError(f"{path} is not JSON ({error}); take a complete copy of the model") from error


def _refuse_code(origin: Origin) -> None:
    config = read_json(origin.folder, "config.json")
    if config is None:
        raise ExportError(f"{origin.folder} has no config.json: it holds no Hugging Face model")
    for name in ("config.json", "tokenizer_config.json"):
        if "auto_map" in (read_json(origin.folder, name) or {}):
            raise ExportError(f"{origin.name} brings its own Python code (auto_map in {name}); such models are not run")
    if not any(origin.folder.glob("*.safetensors")):
        raise ExportError(
            f"{origin.name} has no *.safetensors weights; pickled weights can run code and are not read, "
            "so save the model again with safe_serialization=True"
        )


def _download(source: str, revision: str | None) -> tuple[Path, str | None]:
    from huggingface_hub import snapshot_download

    fetch: Callable[..., str] = snapshot_download
    try:
        folder = Path(fetch(source, revision=revision, allow_patterns=HUB_FILES))
    except Exception as error:  # httpx, requests and the Hub's own errors share no base class
        raise ExportError(
            f"{source} is no folder here and could not be fetched from the Hugging Face Hub "
            f"({type(error).__name__}: {_first_line(error)}); check the name and the network, or give a local folder"
        ) from error
    commit = folder.name if re.fullmatch(r"[0-9a-f]{40}", folder.name) else revision
    return folder, commit


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no reason given"
