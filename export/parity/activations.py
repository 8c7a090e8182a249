"""What goes on inside a graph on real text."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from ...engine.text.tokens import PaddedBatch
from ..graph.graph_file import save_graph
from .samples import Samples
from .scoring import Array, GraphRun, Reading, batches


def outputs(model: onnx.ModelProto, reading: Reading, samples: Samples, count: int) -> Iterator[list[Array]]:
    """All outputs of a graph on each of `count` sequences, alone as INT8 is served: pairs of queries and texts for a
    cross-encoder, texts for a bi-encoder."""
    with tempfile.TemporaryDirectory() as scratch:
        save_graph(model, Path(scratch) / "graph.onnx")
        yield from map(GraphRun(Path(scratch) / "graph.onnx"), _some(reading, samples, count))


def _some(reading: Reading, samples: Samples, count: int) -> Iterator[PaddedBatch]:
    """Single sequences, spread over the queries."""
    each = -(-count // len(samples.queries))
    for query, candidates in zip(samples.queries, samples.candidates, strict=True):
        spread = candidates[np.linspace(0, len(candidates) - 1, min(each, len(candidates)), dtype=np.int64)]
        texts = [samples.texts[row] for row in spread]
        if reading.kind == "cross-encoder":
            sequences = reading.pairs(query, texts)
        else:
            sequences = reading.texts(texts, reading.prompts.passage)
        yield from batches(sequences, reading.pad_id, 1)
