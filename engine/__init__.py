"""Two-stage search over an indexed collection: the public door.

from tandem.engine import Engine

with Engine.open("collection/") as engine:
    result = engine.search("how do I reset an API key")
"""

from . import telemetry_off  # noqa: F401

# isort: split
from .collection import Collection, Document
from .engine import Engine
from .errors import (
    ArtifactError,
    CollectionError,
    CorpusError,
    DeviceError,
    EngineClosed,
    EngineError,
    ExportError,
    InferenceError,
    InputError,
    Overloaded,
    StorageError,
    TandemError,
)
from .result import Hit, Reranked, SearchResult, Timings
from .single_model import SingleModel

__all__ = [
    "ArtifactError",
    "Collection",
    "CollectionError",
    "CorpusError",
    "DeviceError",
    "Document",
    "Engine",
    "EngineClosed",
    "EngineError",
    "ExportError",
    "Hit",
    "InferenceError",
    "InputError",
    "Overloaded",
    "Reranked",
    "SearchResult",
    "SingleModel",
    "StorageError",
    "TandemError",
    "Timings",
]
