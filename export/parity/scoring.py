"""Scores of real queries and texts under one model, through our own tokenizer: the two sides of every parity check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...engine.models.artifact import ArtifactManifest
from ...engine.models.runtime.onnx import cpu_session
from ...engine.platform.device import available_cores
from ...engine.text.tokenizer import Tokenizer
from ...engine.text.tokens import PaddedBatch, TokenBatch
from .samples import Samples

Array = npt.NDArray[np.float32]
Forward = Callable[[PaddedBatch], Array]
"""Padded ids → hidden states [n, width, d] or logits [n, 1]."""

# Sequences a batch: mixed lengths, so that padding is part of what is compared.
BATCH = 4


@dataclass(frozen=True, slots=True)
class Usage:
    """What scoring needs to know of a model: the manifest's fields of the same names."""

    kind: str
    pad_id: int
    pooling: str | None
    query_prompt: str
    passage_prompt: str

    @classmethod
    def of(cls, manifest: ArtifactManifest) -> Usage:
        prompts = manifest.prompts
        return cls(manifest.kind, manifest.pad_id, manifest.pooling, prompts.query, prompts.passage)


def scores(forward: Forward, tokenizer: Tokenizer, usage: Usage, samples: Samples, *, alone: bool = False) -> Array:
    """float32 [queries, candidates]: cosines (bi-encoder) or logits (cross-encoder); NaN where the model gave one.

    alone: every sequence in a run of its own, as INT8 is served on a CPU: its activations share one scale a run
    """
    size = 1 if alone else BATCH
    if usage.kind == "cross-encoder":
        return _logits(forward, tokenizer, usage, samples, size)
    used = np.unique(samples.candidates)
    texts = _vectors(forward, tokenizer, usage, [usage.passage_prompt + samples.texts[row] for row in used], size)
    queries = _vectors(forward, tokenizer, usage, [usage.query_prompt + query for query in samples.queries], size)
    cosines = queries @ texts.T
    return np.take_along_axis(cosines, np.searchsorted(used, samples.candidates), axis=1)


def onnx_outputs(graph: Path | bytes) -> Callable[[PaddedBatch], list[Array]]:
    """All outputs of an ONNX graph on this machine's CPU, as the engine runs it."""
    session = cpu_session(graph, available_cores())
    names = {entry.name for entry in session.get_inputs()}

    def run(batch: PaddedBatch) -> list[Array]:
        feeds = {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": batch.segments}
        found: list[Array] = session.run(None, {name: feeds[name] for name in names})
        return found

    return run


def onnx_forward(graph: Path | bytes) -> Forward:
    """The first output of `onnx_outputs`."""
    run = onnx_outputs(graph)
    return lambda batch: run(batch)[0]


def _logits(forward: Forward, tokenizer: Tokenizer, usage: Usage, samples: Samples, size: int) -> Array:
    rows = []
    for query, candidates in zip(samples.queries, samples.candidates, strict=True):
        passages = tokenizer.encode_many([samples.texts[row] for row in candidates])
        pairs = tokenizer.pairs(tokenizer.encode(query), passages)
        rows.append(np.concatenate([forward(batch)[:, 0] for batch in batches(pairs, usage.pad_id, size)]))
    return np.stack(rows).astype(np.float32)


def _vectors(forward: Forward, tokenizer: Tokenizer, usage: Usage, texts: list[str], size: int) -> Array:
    """float32 [n, d]: unit vectors, whether or not the model normalises: cosines are what is compared."""
    vectors = []
    for batch in batches(tokenizer.single(tokenizer.encode_many(texts)), usage.pad_id, size):
        hidden = forward(batch).astype(np.float32)
        mask = batch.mask[:, :, None].astype(np.float32)
        pooled = hidden[:, 0] if usage.pooling == "cls" else (hidden * mask).sum(axis=1) / mask.sum(axis=1)
        # A NaN at a padded position would reach real ones through attention sooner or later: any NaN fails its batch.
        pooled[~np.isfinite(hidden).all(axis=(1, 2))] = np.nan
        vectors.append(pooled / np.linalg.norm(pooled, axis=1, keepdims=True))
    return np.concatenate(vectors)


def batches(batch: TokenBatch, pad_id: int, size: int) -> Iterator[PaddedBatch]:
    """The sequences of `batch`, `size` at a time."""
    for start in range(0, len(batch), size):
        yield batch.select(np.arange(start, min(start + size, len(batch)))).pad(pad_id)
