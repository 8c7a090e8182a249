"""What is served, as plain values that cross from a worker to the HTTP process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine import Engine
from ..models.model import LoadedModel
from ..recall.planning import Similarity
from ..scheduling.cost_model import CostModel
from ..scoring.effort import EVERYTHING, Effort, RerankDepth, depth_of
from ..scoring.maxp import window_counts
from ..search.passage_ids import MEASURED, spread_rows
from ..single_model import SingleModel
from ..text.prompting import Prompting


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model. `cost` follows what the device thread learns; `around` are the tokens of a text, of a reranker of a
    pair, that are none of its words."""

    name: str
    fingerprint: str
    precision: str
    max_length: int
    vocab_size: int
    pooling: str | None
    similarity: Similarity
    prompting: Prompting
    prompts: list[str]
    """Names of its prompts."""
    around: int
    cost: CostModel


@dataclass(frozen=True, slots=True)
class Facts:
    """A version of a collection, its models and the device; or a model by itself, with no passage.

    `passage_tokens` and `passage_windows`, what reading a passage again takes, are means over a sample.
    """

    name: str
    path: str
    version: str
    passages: int
    documents: int
    dimension: int
    index: dict[str, Any]
    encoder: ModelFacts | None
    """None: a cross-encoder by itself."""
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
    enough: int | None
    """Candidates that are enough for a balanced search (see `Fusion`)."""
    at_once: bool
    """Whether a search may be one piece of work on the device, which reads every candidate once."""
    searched: bool = True
    """Whether it is a collection."""

    def depth(self, effort: Effort) -> RerankDepth:
        """What searches of this `effort` read."""
        return EVERYTHING if self.at_once and effort != "thorough" else depth_of(effort, self.enough)

    @property
    def models(self) -> list[ModelFacts]:
        """In the order of `Engine.models`."""
        return [model for model in (self.encoder, self.reranker, self.early) if model is not None]


@dataclass(slots=True)
class Load:
    """What waits for the device."""

    jobs: int = 0
    tokens: int = 0


def facts_of(name: str, engine: Engine) -> Facts:
    """What an open engine serves under a name."""
    collection, manifest = engine.collection, engine.collection.manifest
    rows = spread_rows(collection.rows, MEASURED)
    lengths = engine.passages.tokens(rows).lengths if engine.passages is not None and len(rows) else np.zeros(1, int)
    most = 0 if engine.reranker is None else engine.reranker.tokenizer.max_length
    return Facts(
        name=name,
        path=str(collection.path),
        version=manifest.version,
        passages=len(collection),
        documents=manifest.counts.documents,
        dimension=manifest.dimension,
        index={} if manifest.largest is None else manifest.largest.model_dump(mode="json"),
        encoder=_model(engine.encoder),
        reranker=None if engine.reranker is None else _model(engine.reranker),
        early=None if engine.reranker is None or engine.reranker.early is None else _model(engine.reranker.early),
        device=engine.device.kind,
        reason=engine.device.reason,
        runs=engine.choices,
        threads=engine.device.threads,
        passage_tokens=int(lengths.mean()),
        passage_windows=float(window_counts(lengths, most).mean()),
        enough=engine.fusion.enough,
        at_once=engine.placed.pipeline is not None,
    )


def facts_of_model(name: str, single: SingleModel) -> Facts:
    """What a model by itself serves under a name."""
    model, reranker = single.model, single.reranker
    return Facts(
        name=name,
        path=str(model.artifact.path),
        version=model.artifact.fingerprint[:12],
        passages=0,
        documents=0,
        dimension=0 if single.encoder is None else single.encoder.dimension,
        index={},
        encoder=None if single.encoder is None else _model(single.encoder),
        reranker=None if reranker is None else _model(reranker),
        early=None if reranker is None or reranker.early is None else _model(reranker.early),
        device=single.device.kind,
        reason=single.device.reason,
        runs={"model": f"{model.choice.runtime} {model.precision}: {model.choice.reason}"},
        threads=single.device.threads,
        passage_tokens=0,
        passage_windows=0.0,
        enough=None,
        at_once=False,
        searched=False,
    )


def _model(model: LoadedModel) -> ModelFacts:
    manifest, tokenizer = model.artifact.manifest, model.tokenizer
    pairs, prompting = manifest.kind == "cross-encoder", manifest.prompting
    return ModelFacts(
        name=manifest.name,
        fingerprint=model.artifact.fingerprint,
        precision=model.precision,
        max_length=tokenizer.max_length,
        vocab_size=tokenizer.vocab_size,
        pooling=manifest.pooling,
        similarity=manifest.similarity,
        prompting=prompting,
        prompts=prompting.query_prompts if pairs else prompting.text_prompts,
        around=tokenizer.pair_around if pairs else tokenizer.special,
        cost=model.cost,
    )
