"""A model's files from the Hugging Face Hub, and what its refusals mean for a user."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ...engine.errors import ExportError
from .files import read_list
from .layout import MODULES, last_name

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
# What an export reads; a repository's other weights (TensorFlow, ONNX of somebody else) stay where they are.
FILES = ["*.json", "*.txt", "*.model", "*.jinja"]
SAFE, PICKLED, CODE = "*.safetensors", "*.bin", "*.py"
_NOT = ["onnx/*", "openvino/*"]
_WEIGHTY = ("Transformer", "Dense", "LayerNorm")


def download(source: str, revision: str | None, *, code: bool = False) -> tuple[Path, str | None]:
    """The folder of the repository `source` in the Hub's cache, and its commit.

    Pickled weights are fetched where a repository, or a module of it, has no others; Python files only with `code`.
    Raises ExportError with the reason: gated, missing, an unknown revision, no network.
    """
    from huggingface_hub import snapshot_download

    fetch: Callable[..., str] = snapshot_download
    try:
        patterns = [*FILES, SAFE, *([CODE] if code else [])]
        folder = Path(fetch(source, revision=revision, allow_patterns=patterns, ignore_patterns=_NOT))
        pickled = _pickled(folder)
        if pickled:
            fetch(source, revision=revision, allow_patterns=pickled, ignore_patterns=_NOT)
    except ExportError:
        raise
    except Exception as error:  # httpx, requests and the Hub's own errors share no base class
        raise ExportError(_reason(source, revision, error)) from error
    commit = folder.name if re.fullmatch(r"[0-9a-f]{40}", folder.name) else revision
    return folder, commit


def _pickled(folder: Path) -> list[str]:
    """Patterns of the pickled weights that a repository needs: of folders that have a configuration and no others."""
    modules = read_list(folder, MODULES) or []
    paths = [str(module.get("path", "")) for module in modules if last_name(module) in _WEIGHTY]
    return [
        f"{path}/{PICKLED}" if path else "pytorch_model*.bin"
        for path in dict.fromkeys(["", *paths])
        if (folder / path / "config.json").is_file() and not any((folder / path).glob(SAFE))
    ]


def _reason(source: str, revision: str | None, error: Exception) -> str:
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    match error:
        case GatedRepoError():
            return (
                f"{source} is gated: ask for access on https://huggingface.co/{source}, then log in "
                "(`hf auth login`, or set HF_TOKEN)"
            )
        case RevisionNotFoundError():
            return f"{source} has no revision {revision!r}; leave --revision out, or give a branch, tag or commit of it"
        case RepositoryNotFoundError():
            return (
                f"{source} is no folder here and no repository of the Hugging Face Hub that you may see; check the "
                "name, or log in where it is private (`hf auth login`, or set HF_TOKEN)"
            )
        case OfflineModeIsEnabled() | LocalEntryNotFoundError():
            return (
                f"{source} is no folder here, is not in the Hub's cache, and the Hub cannot be reached (no network, or "
                "HF_HUB_OFFLINE is set); connect once, or give a local folder"
            )
        case _:
            lines = str(error).strip().splitlines() or ["no reason given"]
            return f"{source} could not be fetched from the Hugging Face Hub ({type(error).__name__}: {lines[0]})"
