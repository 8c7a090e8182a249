"""Traced graphs of random models of every family."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from tandem.engine.text.tokens import TokenBatch, pack
from tandem.export.families import FAMILIES
from tandem.export.graph import traced_attention
from tandem.export.graph.head import name_head
from tandem.export.graph.trace import trace
from tandem.export.parity.scoring import GraphRun
from tandem.export.source.network import Embedder


def traced(model: Any, family: str, mode: str, folder: Path, *, masked: bool) -> Path:
    """The graph of the model with one pooling, unit vectors."""
    if not FAMILIES[family].own_attention:
        traced_attention.register()
        model.set_attn_implementation(traced_attention.NAME)
    inputs = ("input_ids", "attention_mask") if masked else ("input_ids",)
    file = folder / f"traced-{masked}-{mode}.onnx"
    network = Embedder(model, (mode,), [], dimensions=None, normalize=True)
    trace(network, inputs, "sentence_embedding", file)
    return file


def loaded(file: Path) -> onnx.ModelProto:
    """A traced graph whose head has its names."""
    graph = onnx.load(file)
    name_head(graph)
    return graph


def sequences(lengths: Sequence[int], seed: int = 0) -> TokenBatch:
    """Random ids."""
    random = np.random.default_rng(seed)
    return pack([random.integers(5, 190, size=length) for length in lengths])


def expected(model: Any, batch: TokenBatch, mode: str) -> np.ndarray:
    """Unit vectors [n, d] of the model itself, each sequence alone."""
    model.set_attn_implementation("eager")
    rows = []
    with torch.inference_mode():
        for row in range(len(batch)):
            hidden = model(input_ids=torch.from_numpy(batch[row][None].astype(np.int64))).last_hidden_state[0]
            pooled = {"cls": hidden[0], "lasttoken": hidden[-1], "mean": hidden.mean(dim=0)}[mode]
            rows.append(torch.nn.functional.normalize(pooled, dim=0).numpy())
    return np.stack(rows)


def run(graph: onnx.ModelProto, batch: TokenBatch, *, pad_id: int = 0) -> np.ndarray:
    """The graph's rows: padded together where it has a mask, else each alone."""
    runner = GraphRun(graph.SerializeToString())
    if runner.masked:
        return runner(batch.pad(pad_id))[0]
    return np.concatenate([runner(batch.select([row]).pad(pad_id))[0] for row in range(len(batch))])
