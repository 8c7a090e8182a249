"""The two sides of a parity check: every pair once, in its place, batched as it is served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tandem.engine.models.artifact import Artifact
from tandem.engine.text.tokens import PaddedBatch
from tandem.export.parity.samples import sample
from tandem.export.parity.scoring import BATCH, Array, Usage, scores

TEXTS = ["a list of words", "sort the list", "open a file and read all of it " * 4, "bytes", "the time zone"]


@pytest.mark.parametrize(("alone", "sizes"), [(False, {BATCH, len(TEXTS) % BATCH}), (True, {1})])
def test_pairs_are_batched_as_they_are_served(tiny_cross_encoder: Path, alone: bool, sizes: set[int]):
    artifact = Artifact.open(tiny_cross_encoder)
    seen: list[int] = []

    def tokens(batch: PaddedBatch) -> Array:
        seen.append(len(batch.ids))
        return batch.mask.sum(axis=1, keepdims=True).astype(np.float32)

    samples = sample(TEXTS, ["a question", "another one"])
    tokenizer = artifact.tokenizer()
    table = scores(tokens, tokenizer, Usage.of(artifact.manifest), samples, alone=alone)
    for query, candidates, row in zip(samples.queries, samples.candidates, table, strict=True):
        passages = tokenizer.encode_many([samples.texts[place] for place in candidates])
        assert row.tolist() == tokenizer.pair_lengths(tokenizer.encode(query), passages).tolist()
    assert set(seen) == sizes
