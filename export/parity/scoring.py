"""Scores of real queries and texts under one model, through our own tokenizer: the two sides of every parity check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...engine.models.artifact import ArtifactManifest
from ...engine.models.runtime.onnx import cpu_session
from ...engine.platform.device import available_cores
from ...engine.text.prompting import Prompts
from ...engine.text.tokenizer import Tokenizer
from ...engine.text.tokens import PaddedBatch, TokenBatch
from .samples import Samples

Array = npt.NDArray[np.float32]
Forward = Callable[[TokenBatch], Array]
"""Sequences → vectors [n, d] or scores [n]."""

# Sequences a batch of a graph that pads: mixed lengths, so that padding is part of what is compared.
BATCH = 4


@dataclass(frozen=True, slots=True)
class Reading:
    """How texts become what a model reads: its tokenizer, and the manifest's fields of the same names."""

    tokenizer: Tokenizer
    kind: str
    pad_id: int
    prompts: Prompts

    @classmethod
    def of(cls, manifest: ArtifactManifest, tokenizer: Tokenizer) -> Reading:
        return cls(tokenizer, manifest.kind, manifest.pad_id, manifest.prompts)

    def texts(self, texts: Sequence[str], prompt: str) -> TokenBatch:
        """Each text behind `prompt`, as a bi-encoder reads it."""
        return self.tokenizer.single(self.tokenizer.encode_many([prompt + text for text in texts]))

    def pairs(self, query: str, texts: Sequence[str]) -> TokenBatch:
        """The query with each text, as a cross-encoder reads them."""
        return self.tokenizer.pairs(self.tokenizer.query(query), self.tokenizer.passages(texts))


def scores(forward: Forward, reading: Reading, samples: Samples) -> Array:
    """float32 [queries, candidates]: similarities (bi-encoder) or logits (cross-encoder); NaN where there was one."""
    if reading.kind == "cross-encoder":
        rows = [
            forward(reading.pairs(query, [samples.texts[row] for row in candidates]))
            for query, candidates in zip(samples.queries, samples.candidates, strict=True)
        ]
        return np.stack(rows).astype(np.float32)
    used = np.unique(samples.candidates)
    texts = forward(reading.texts([samples.texts[row] for row in used], reading.prompts.passage))
    queries = forward(reading.texts(samples.queries, reading.prompts.query))
    return np.take_along_axis(queries @ texts.T, np.searchsorted(used, samples.candidates), axis=1)


def onnx_forward(graph: Path | bytes, pad_id: int) -> Forward:
    """A graph on this machine's CPU, as the engine runs it: alone, or a few sequences where the graph has a mask."""
    run = GraphRun(graph)

    def forward(sequences: TokenBatch) -> Array:
        size = BATCH if run.masked else 1
        return np.concatenate([run(batch)[0] for batch in batches(sequences, pad_id, size)]).astype(np.float32)

    return forward


class GraphRun:
    """All outputs of a graph on one padded batch."""

    def __init__(self, graph: Path | bytes) -> None:
        self._session = cpu_session(graph, available_cores())
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self.masked = "attention_mask" in self._inputs

    def __call__(self, batch: PaddedBatch) -> list[Array]:
        feeds = {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": batch.segments}
        found: list[Array] = self._session.run(None, {name: feeds[name] for name in self._inputs})
        return found


def batches(batch: TokenBatch, pad_id: int, size: int) -> Iterator[PaddedBatch]:
    """The sequences of `batch`, `size` at a time."""
    for start in range(0, len(batch), size):
        yield batch.select(np.arange(start, min(start + size, len(batch)))).pad(pad_id)
