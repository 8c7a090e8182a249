"""The gate that cannot be noisy: what a search computes, calls and allocates, against bounds that are committed here.

Passages and questions are single letters, one token each whatever the tokenizer's vocabulary, and the cost model is
not measured (`warm_up=False`), so every number but the allocations is exactly the same on every machine. A bound that
must be raised is a decision of its commit; one that can be lowered should be.
"""

from __future__ import annotations

import json
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus
from tandem.engine.collection import IndexSettings
from tandem.engine.models.runtime import OnnxRuntime
from tandem.engine.scoring.effort import ENOUGH, EVERYTHING, FINALISTS, REREAD, RerankDepth
from tandem.engine.scoring.maxp import window_counts, window_pair
from tandem.engine.text.tokenizer import Tokenizer
from tandem.engine.text.tokens import TokenBatch

CANDIDATES, QUESTIONS, QUESTION_TOKENS = 100, 8, 9
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))

# For one search of CANDIDATES passages of 8 to 90 tokens: the encoder's one call and the reranker's together.
BOUNDS = {
    "tokens": 6318.0,  # computed; nothing is padded
    "calls": 101.0,  # of a model: each sequence is a call of its own
    "tokenised": 1.0,  # calls of the tokenizer
}
EXIT_BOUNDS = {"exit": 6307.0, "all layers": 2225.0}
"""Tokens computed for one search by a reranker's early exit, and by all its layers for FINALISTS of the candidates."""
USUAL = 2610.0
"""Tokens computed for one search as it is where nothing is said: of the encoder, of what is read, and of what again."""
SHARED_ENCODINGS = 2
"""Calls of the encoder for QUESTIONS that wait together: the one that was running, and one for all the others."""
ALLOCATED = 250_000
"""Bytes at the peak of a search above where it began, as tracemalloc sees them (190,000 when this was set)."""


@dataclass
class Counts:
    """What models were given: the tokens of each call, and the sequences of each micro-batch."""

    calls: list[int] = field(default_factory=list)
    batches: list[TokenBatch] = field(default_factory=list)
    of: Counter[int] = field(default_factory=Counter)
    """Tokens computed by each runtime, by its id."""
    tokenised: int = 0

    @property
    def computed(self) -> int:
        return sum(self.calls)


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, tiny_cross_encoder: Path
) -> Iterator[Engine]:
    with opened(tmp_path_factory.mktemp("counts"), tiny_bi_encoder, tiny_cross_encoder) as engine:
        yield engine


@contextmanager
def opened(folder: Path, encoder: Path, reranker: Path) -> Iterator[Engine]:
    random = np.random.default_rng(0)
    rows = [
        {"_id": str(row), "text": " ".join(random.choice(LETTERS, random.integers(8, 91)))} for row in range(CANDIDATES)
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    index_corpus(
        folder / "corpus.jsonl", folder / "collection", encoder=encoder, reranker=reranker, threads=1,
        settings=IndexSettings(chunk_tokens=0),
    )  # fmt: skip
    settings = dict(device="cpu", threads=1, reranker_precision="fp32", warm_up=False)
    with Engine.open(folder / "collection", **settings) as engine:
        yield engine


@pytest.fixture
def questions() -> list[str]:
    random = np.random.default_rng(1)
    return [" ".join(random.choice(LETTERS, QUESTION_TOKENS)) for _ in range(QUESTIONS)]


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """Counts what every graph and every tokenizer is given from here on."""
    found = Counts()
    run, run_until, encode = OnnxRuntime._run, OnnxRuntime.run_until, Tokenizer.encode_many

    def counted_run(self, batch: TokenBatch, row: int):
        found.calls.append(int(batch.lengths[row]))
        found.of[id(self)] += int(batch.lengths[row])
        return run(self, batch, row)

    def counted_batch(self, batch: TokenBatch, stop):
        found.batches.append(batch)
        return run_until(self, batch, stop)

    def counted_encode(self, texts):
        found.tokenised += 1
        return encode(self, texts)

    monkeypatch.setattr(OnnxRuntime, "_run", counted_run)
    monkeypatch.setattr(OnnxRuntime, "run_until", counted_batch)
    monkeypatch.setattr(Tokenizer, "encode_many", counted_encode)
    return found


def ask(engine: Engine, questions: list[str], depth: RerankDepth = EVERYTHING) -> None:
    for question in questions:
        result = engine.search(question, candidates=CANDIDATES, depth=depth, budget_ms=None)
        assert result.reranked == CANDIDATES


def test_one_search_computes_no_more_than_it_did(engine: Engine, questions: list[str], counts: Counts):
    counts.calls.clear()  # of opening it
    counts.tokenised = 0
    ask(engine, questions)
    measured = {
        "tokens": counts.computed / QUESTIONS,
        "calls": len(counts.calls) / QUESTIONS,
        "tokenised": counts.tokenised / QUESTIONS,
    }
    assert {name: value for name, value in measured.items() if value > BOUNDS[name]} == {}, measured


def test_a_usual_search_reads_what_is_enough(engine: Engine, questions: list[str], counts: Counts):
    counts.calls.clear()
    for question in questions:
        result = engine.search(question, candidates=CANDIDATES, budget_ms=None)
        assert (result.reranked, result.finalists, result.reread) == (ENOUGH, ENOUGH, REREAD)
    assert counts.computed / QUESTIONS <= USUAL, counts.computed / QUESTIONS


def test_with_an_early_exit_all_layers_read_finalists_only(
    tmp_path: Path, tiny_bi_encoder: Path, exiting_cross_encoder: Path, questions: list[str], counts: Counts
):
    with opened(tmp_path, tiny_bi_encoder, exiting_cross_encoder) as engine:
        counts.of.clear()
        ask(engine, questions, RerankDepth(finalists=FINALISTS))
        runtimes = {"exit": engine.reranker.early.runtime, "all layers": engine.reranker.runtime}
    measured = {name: counts.of[id(runtime)] / QUESTIONS for name, runtime in runtimes.items()}
    assert {name: value for name, value in measured.items() if not 0 < value <= EXIT_BOUNDS[name]} == {}, measured


def test_reading_again_computes_the_windows_and_no_more(engine: Engine, questions: list[str], counts: Counts):
    asked = dict(candidates=CANDIDATES, budget_ms=None)
    windows = 0
    for question in questions:
        hits = engine.search(question, top_k=CANDIDATES, depth=RerankDepth(10), **asked).hits
        best = [hit.id for hit in hits if hit.rerank_score is not None][:REREAD]
        lengths = engine.collection.tokens([engine.collection.row_of(name) for name in best]).lengths
        tokenizer = engine.reranker.tokenizer
        pair = window_pair(len(tokenizer.encode(question)), tokenizer.pair_special, tokenizer.max_length)
        windows += int(window_counts(lengths, tokenizer.max_length).sum()) * pair
    once = counts.computed
    for question in questions:
        engine.search(question, depth=RerankDepth(10, reread=REREAD), **asked)
    assert counts.computed - 2 * once == windows > 0


def test_the_counts_see_tokens_and_calls(engine: Engine, counts: Counts):
    """So that the bounds can fail."""
    tokenizer = engine.reranker.tokenizer
    batch = tokenizer.single(tokenizer.encode_many(["a b", "a b c d e f"]))
    engine.reranker.runtime.run(batch)
    assert sorted(counts.calls) == [4, 8]
    assert [len(each) for each in counts.batches] == [2]
    assert counts.tokenised == 1


def test_questions_that_wait_together_share_an_encoding(
    engine: Engine, questions: list[str], counts: Counts, monkeypatch: pytest.MonkeyPatch
):
    run_until = OnnxRuntime.run_until

    def run_once_all_wait(self, batch: TokenBatch, stop):
        give_up = time.monotonic() + 10
        while not counts.batches and engine.batcher.waiting_jobs < QUESTIONS and time.monotonic() < give_up:
            time.sleep(0.001)
        return run_until(self, batch, stop)

    monkeypatch.setattr(OnnxRuntime, "run_until", run_once_all_wait)
    engine.search_many(questions, candidates=CANDIDATES)
    encodings = [batch for batch in counts.batches if set(batch.lengths.tolist()) == {QUESTION_TOKENS + 2}]
    assert sum(map(len, encodings)) == QUESTIONS
    assert len(encodings) <= SHARED_ENCODINGS


def test_a_search_allocates_no_more_than_it_did(engine: Engine, questions: list[str]):
    ask(engine, questions)  # what is allocated once is not a search's
    tracemalloc.start()
    try:
        ask(engine, questions[:1])
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        ask(engine, questions[1:2])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before <= ALLOCATED, peak - before
