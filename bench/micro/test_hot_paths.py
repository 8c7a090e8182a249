"""Micro-benchmarks of what a query costs outside the models, for `make micro`: 100 candidates of 170 tokens.

pytest bench/micro --benchmark-only --benchmark-autosave; pytest-benchmark compare
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tandem.engine.collection.ragged import Ragged
from tandem.engine.scheduling.cost_model import CostModel
from tandem.engine.scheduling.job import Job
from tandem.engine.scheduling.micro_batch import form
from tandem.engine.scoring.fusion import Fusion, Scored, rank
from tandem.engine.scoring.lexical import Lexicon
from tandem.engine.text.tokens import Template, TokenBatch, cumulative, join_pairs

BERT_PAIR = Template(parts=((101,), (102,), (102,)), part_segments=((0,), (0,), (1,)), text_segments=(0, 1))
CANDIDATES, TOKENS, STORED = 100, 170, 100_000


@pytest.fixture(scope="module")
def passages() -> TokenBatch:
    random = np.random.default_rng(0)
    lengths = random.integers(TOKENS // 2, TOKENS * 3 // 2, CANDIDATES)
    return TokenBatch(random.integers(1000, 30_000, lengths.sum(), dtype=np.int32), cumulative(lengths))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Ragged:
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("store")
    offsets = cumulative(random.integers(TOKENS // 2, TOKENS * 3 // 2, STORED))
    np.save(folder / "tokens.npy", random.integers(0, 30_000, offsets[-1]).astype(np.uint16))
    np.save(folder / "tokens.offsets.npy", offsets)
    return Ragged.open(folder / "tokens", np.uint16)


def test_join_pairs(benchmark: Any, passages: TokenBatch) -> None:
    query = np.arange(2000, 2012, dtype=np.int32)
    pairs = benchmark(join_pairs, query, passages, BERT_PAIR, 512, segments=True)
    assert len(pairs) == CANDIDATES


def test_store_fetch(benchmark: Any, store: Ragged) -> None:
    rows = np.random.default_rng(1).integers(0, STORED, CANDIDATES)
    flat, lengths = benchmark(store.take, rows)
    assert len(flat) == lengths.sum()


def test_batch_forming(benchmark: Any, passages: TokenBatch) -> None:
    class Model:
        cost = CostModel(call=1e-3, token=1e-5, square=0.0, tokens=512)

        def run(self, batch: TokenBatch) -> list[float]:
            return [0.0] * len(batch)

    model = Model()

    def serve() -> int:
        waiting = [Job(model, passages)]
        while waiting[0].waiting:
            form(waiting, 0.0)
        return waiting[0].cursor

    assert benchmark(serve) == CANDIDATES


def test_pad(benchmark: Any, passages: TokenBatch) -> None:
    batch = passages.select(np.arange(4))
    assert len(benchmark(batch.pad, 0).ids) == 4


def test_final_order(benchmark: Any) -> None:
    random = np.random.default_rng(2)
    evidence, logits = random.random(CANDIDATES, np.float32), random.random(CANDIDATES, np.float32)
    assert len(benchmark(rank, evidence, Scored.of(logits), Fusion(recall_weight=5.0)).places) == CANDIDATES


def test_lexical_scores(benchmark: Any, passages: TokenBatch) -> None:
    lexicon = Lexicon.of(passages, 30_522)
    assert len(benchmark(lexicon.windows, passages[0][:12], passages)) == CANDIDATES
