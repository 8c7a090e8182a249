"""What is served, as plain values that cross from a worker to the HTTP process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine import Engine
from ..models.model import LoadedModel
from ..scheduling.cost_model import CostModel
from ..scoring.maxp import window_counts

# Rows whose lengths tell the mean length of a collection's passages.
SAMPLE = 256


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model. `cost` follows what the device thread learns; `characters` of a text are read, the rest is cut."""

    name: str
    fingerprint: str
    precision: str
    max_length: int
    vocab_size: int
    characters: int
    pooling: str | None
    normalize: bool
    cost: CostModel


@dataclass(frozen=True, slots=True)
class Facts:
    """A version of a collection, its models and the device; `passage_tokens` and `passage_windows`, what reading a
    passage again takes, are means over a sample."""

    name: str
    path: str
    version: str
    passages: int
    documents: int
    dimension: int
    index: dict[str, Any]
    encoder: ModelFacts
    reranker: ModelFacts | None
    early: ModelFacts | None
    """The reranker up to its early exit."""
    device: str
    reason: str
    runs: dict[str, str]
    """Which runtime each part uses, and why."""
    threads: int
    passage_tokens: int
    passage_windows: float

    @property
    def models(self) -> list[ModelFacts]:
        """In the order of `Engine.models`."""
        return [model for model in (self.encoder, self.reranker, self.early) if model is not None]


@dataclass(slots=True)
class Load:
    """What waits for the device."""

    jobs: int = 0
    tokens: int = 0


def facts_of(engine: Engine) -> Facts:
    """What an open engine serves."""
    collection, manifest = engine.collection, engine.collection.manifest
    rows = np.linspace(0, max(0, len(collection) - 1), min(SAMPLE, len(collection)), dtype=np.int64)
    lengths = (
        collection.tokens(rows).lengths if engine.reranker is not None and len(rows) else np.zeros(1, dtype=np.int64)
    )
    most = 0 if engine.reranker is None else engine.reranker.tokenizer.max_length
    return Facts(
        name=collection.path.resolve().name,
        path=str(collection.path),
        version=manifest.version,
        passages=len(collection),
        documents=manifest.counts.documents,
        dimension=manifest.dimension,
        index=manifest.index.model_dump(mode="json"),
        encoder=_model(engine.encoder),
        reranker=None if engine.reranker is None else _model(engine.reranker),
        early=None if engine.reranker is None or engine.reranker.early is None else _model(engine.reranker.early),
        device=engine.device.kind,
        reason=engine.device.reason,
        runs=engine.choices,
        threads=engine.device.threads,
        passage_tokens=int(lengths.mean()),
        passage_windows=float(window_counts(lengths, most).mean()),
    )


def _model(model: LoadedModel) -> ModelFacts:
    manifest = model.artifact.manifest
    return ModelFacts(
        name=manifest.name,
        fingerprint=model.artifact.fingerprint,
        precision=model.precision,
        max_length=model.tokenizer.max_length,
        vocab_size=model.tokenizer.vocab_size,
        characters=model.tokenizer.readable_characters,
        pooling=manifest.pooling,
        normalize=manifest.normalize,
        cost=model.cost,
    )
