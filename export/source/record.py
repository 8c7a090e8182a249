"""`adapter.json`: what a trained adapter says of itself beside the files that PEFT reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...engine.errors import ExportError
from ...engine.platform.durable_io import sha256
from ...engine.scoring.fusion import Fusion

RECORD = "adapter.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseShape(_Part):
    """What a base model must be for the adapter to mean anything on it."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    embeddings_sha256: str
    """Of the word embeddings in float16: the same for any copy of the weights, re-saved or in half precision."""


class AdapterRecord(_Part):
    """Unknown keys are errors, as everywhere."""

    format: Literal[1] = 1
    base: BaseShape
    files: dict[str, str]
    """sha256 of each file of the adapter."""
    fusion: Fusion = Fusion()
    exits: tuple[int, ...] = ()
    """Layers after which `exits.safetensors` has a head on [CLS]; 1 is the first layer."""
    max_length: int = Field(default=512, gt=0)
    trained: dict[str, Any] = Field(default_factory=dict)
    """Data, steps, minutes, seed and machine of the training."""
    quality: dict[str, Any] = Field(default_factory=dict)
    """Measured quality on validation and test sets."""


def read_record(adapter: Path) -> AdapterRecord | None:
    """The adapter's record, each of its files hashed; None for a plain PEFT adapter, which has no record.

    Raises ExportError when the record is unreadable or a file is missing or not the one that was recorded.
    """
    path = adapter / RECORD
    if not path.is_file():
        return None
    try:
        record = AdapterRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise ExportError(
            f"{path} is not an adapter record ({where}: {first['msg']}); train the adapter again"
        ) from error
    for name, expected in record.files.items():
        file = adapter / name
        if not file.is_file():
            raise ExportError(f"{file} is missing; copy the whole adapter folder, or train the adapter again")
        if sha256(file) != expected:
            raise ExportError(
                f"{file} is damaged: its sha256 is not the one in {path}; copy or train the adapter again"
            )
    return record
