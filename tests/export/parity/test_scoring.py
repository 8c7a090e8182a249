"""The two sides of a parity check: every pair once, in its place, run as it is served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tandem.engine.models.artifact import Artifact
from tandem.engine.text.tokens import PaddedBatch, TokenBatch
from tandem.export.parity import scoring
from tandem.export.parity.samples import sample
from tandem.export.parity.scoring import BATCH, Array, Reading, onnx_forward, scores

TEXTS = ["a list of words", "sort the list", "open a file and read all of it " * 4, "bytes", "the time zone"]


def test_every_pair_is_scored_in_its_place(tiny_cross_encoder: Path):
    artifact = Artifact.open(tiny_cross_encoder)

    def tokens(batch: TokenBatch) -> Array:
        return batch.lengths.astype(np.float32)

    samples = sample(TEXTS, ["a question", "another one"])
    tokenizer = artifact.tokenizer()
    table = scores(tokens, Reading.of(artifact.manifest, tokenizer), samples)
    for query, candidates, row in zip(samples.queries, samples.candidates, table, strict=True):
        passages = tokenizer.encode_many([samples.texts[place] for place in candidates])
        assert row.tolist() == tokenizer.pair_lengths(tokenizer.encode(query), passages).tolist()


@pytest.mark.parametrize(("masked", "sizes"), [(True, [BATCH, 1]), (False, [1] * 5)])
def test_sequences_are_run_as_the_graph_is_served(monkeypatch: pytest.MonkeyPatch, masked: bool, sizes: list[int]):
    """Padded together where the graph has a mask, alone where it has none."""
    seen: list[int] = []

    class Alike:
        def __init__(self, graph: bytes) -> None:
            self.masked = masked

        def __call__(self, batch: PaddedBatch) -> list[Array]:
            seen.append(len(batch.ids))
            return [batch.mask.sum(axis=1).astype(np.float32)]

    monkeypatch.setattr(scoring, "GraphRun", Alike)
    batch = TokenBatch(np.arange(15, dtype=np.int32), np.array([0, 1, 3, 6, 10, 15]))
    assert onnx_forward(b"", 0)(batch).tolist() == [1, 2, 3, 4, 5]
    assert seen == sizes
