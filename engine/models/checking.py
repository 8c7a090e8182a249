"""What stands between an artifact's folder and an engine, beside the hashes: no links, nothing unsafe, sizes, sense."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ArtifactError
from ..platform.durable_io import read_small

CONFIG = "config.json"
CONFIGS = (CONFIG, "tokenizer_config.json")
"""Files in which a model may name Python code of its own."""
CONFIG_BYTES = 16_000_000
"""A configuration has some kB."""
# Formats that can run code when they are read; an artifact never holds one.
UNSAFE_SUFFIXES = frozenset(
    {".bin", ".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt", ".npy", ".npz", ".so", ".py"}
)


def check_folder(folder: Path, sizes: Mapping[str, int]) -> None:
    """Raises ArtifactError when `folder` holds a link or what can run code, or not the files of these `sizes`."""
    for file in folder.rglob("*"):
        if file.is_symlink():
            raise ArtifactError(f"{file} is a link; an artifact holds plain files only, so copy the folder's contents")
        if file.suffix in UNSAFE_SUFFIXES:
            raise ArtifactError(f"{file} can run code when it is read; an artifact never holds such a file, remove it")
    for name, size in sizes.items():
        file = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ArtifactError(f"{folder} has a manifest that names {name!r}, which lies outside the artifact")
        if not file.is_file():
            raise ArtifactError(f"{file} is missing; export the model again")
        if file.stat().st_size != size:
            raise ArtifactError(f"{file} has {file.stat().st_size} bytes, its manifest says {size}; export again")


def read_config(file: Path) -> dict[str, Any]:
    """The JSON object in `file`; raises ArtifactError when there is none."""
    try:
        config = json.loads(read_small(file, CONFIG_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{file} cannot be read as JSON ({error}); export the model again") from error
    if not isinstance(config, dict):
        raise ArtifactError(f"{file} holds no JSON object; export the model again")
    return config


def check_configs(folder: Path, configs: Mapping[str, dict[str, Any]], max_length: int) -> None:
    """Raises ArtifactError when the model wants code of its own, or has no positions for `max_length` tokens."""
    for name, config in configs.items():
        if "auto_map" in config:
            raise ArtifactError(
                f"{folder / name} names Python code of the model's own (auto_map), which is never run; export a model "
                "of a known architecture"
            )
    positions = configs.get(CONFIG, {}).get("max_position_embeddings")
    if isinstance(positions, int) and max_length > positions:
        raise ArtifactError(
            f"{folder} says that it reads {max_length} tokens and has {positions} positions; export the model again"
        )
