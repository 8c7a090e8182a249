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
from tandem.engine.text.tokenizer import Tokenizer
from tandem.engine.text.tokens import TokenBatch

CANDIDATES, QUESTIONS, QUESTION_TOKENS = 100, 8, 9
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))

# For one search of CANDIDATES passages of 8 to 90 tokens: the encoder's one call and the reranker's together.
BOUNDS = {
    "tokens": 6577.0,  # computed, padding included: 6,318 are real
    "padding": 0.0394,  # share of the tokens computed
    "calls": 15.0,  # of a model, 512 tokens each
    "tokenised": 1.0,  # calls of the tokenizer
}
INT8_BOUNDS = {**BOUNDS, "tokens": 6318.0, "padding": 0.0, "calls": 101.0}
"""In INT8, which pads nothing: each sequence is a call of its own."""
EXIT_BOUNDS = {"exit": 6566.0, "all layers": 1688.0}
"""Tokens computed for one search by a reranker's early exit, and by all its layers for FINALISTS of the candidates."""
REREAD, REREAD_BOUND = 3, 114.0
"""Candidates that are read again, and the tokens that their windows add to a search."""
SHARED_ENCODINGS = 2
"""Calls of the encoder for QUESTIONS that wait together: the one that was running, and one for all the others."""
ALLOCATED = 250_000
"""Bytes at the peak of a search above where it began, as tracemalloc sees them (190,000 when this was set)."""


@dataclass
class Counts:
    """What models were given: each call's sequences × longest, and the tokens that were no padding."""

    shapes: list[tuple[int, int]] = field(default_factory=list)
    real: int = 0
    of: Counter[int] = field(default_factory=Counter)
    """Tokens computed by each runtime, by its id."""
    tokenised: int = 0

    @property
    def computed(self) -> int:
        return sum(sequences * width for sequences, width in self.shapes)


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, tiny_cross_encoder: Path
) -> Iterator[Engine]:
    with opened(tmp_path_factory.mktemp("counts"), tiny_bi_encoder, tiny_cross_encoder) as engine:
        yield engine


@pytest.fixture(scope="module")
def int8_engine(
    tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, tiny_cross_encoder: Path
) -> Iterator[Engine]:
    with opened(tmp_path_factory.mktemp("int8"), tiny_bi_encoder, tiny_cross_encoder, "int8") as engine:
        yield engine


@contextmanager
def opened(folder: Path, encoder: Path, reranker: Path, precision: str = "fp32") -> Iterator[Engine]:
    random = np.random.default_rng(0)
    rows = [
        {"_id": str(row), "text": " ".join(random.choice(LETTERS, random.integers(8, 91)))} for row in range(CANDIDATES)
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    index_corpus(
        folder / "corpus.jsonl", folder / "collection", encoder=encoder, reranker=reranker, threads=1,
        settings=IndexSettings(chunk_tokens=0),
    )  # fmt: skip
    settings = dict(device="cpu", threads=1, reranker_precision=precision, warm_up=False)
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
    run, encode = OnnxRuntime._run, Tokenizer.encode_many

    def counted_run(self, batch: TokenBatch):
        found.shapes.append((len(batch), int(batch.lengths.max())))
        found.real += len(batch.ids)
        found.of[id(self)] += len(batch) * int(batch.lengths.max())
        return run(self, batch)

    def counted_encode(self, texts):
        found.tokenised += 1
        return encode(self, texts)

    monkeypatch.setattr(OnnxRuntime, "_run", counted_run)
    monkeypatch.setattr(Tokenizer, "encode_many", counted_encode)
    return found


def ask(engine: Engine, questions: list[str]) -> None:
    for question in questions:
        result = engine.search(question, candidates=CANDIDATES, budget_ms=None)
        assert result.reranked == CANDIDATES


@pytest.mark.parametrize(("which", "bounds"), [("engine", BOUNDS), ("int8_engine", INT8_BOUNDS)], ids=["fp32", "int8"])
def test_one_search_computes_no_more_than_it_did(
    request: pytest.FixtureRequest, questions: list[str], counts: Counts, which: str, bounds: dict[str, float]
):
    engine = request.getfixturevalue(which)
    counts.shapes.clear()  # of opening it
    counts.real = counts.tokenised = 0
    ask(engine, questions)
    measured = {
        "tokens": counts.computed / QUESTIONS,
        "padding": 1 - counts.real / counts.computed,
        "calls": len(counts.shapes) / QUESTIONS,
        "tokenised": counts.tokenised / QUESTIONS,
    }
    assert {name: value for name, value in measured.items() if value > bounds[name]} == {}, measured


def test_with_an_early_exit_all_layers_read_finalists_only(
    tmp_path: Path, tiny_bi_encoder: Path, exiting_cross_encoder: Path, questions: list[str], counts: Counts
):
    with opened(tmp_path, tiny_bi_encoder, exiting_cross_encoder) as engine:
        counts.of.clear()
        ask(engine, questions)
        runtimes = {"exit": engine.reranker.early.runtime, "all layers": engine.reranker.runtime}
    measured = {name: counts.of[id(runtime)] / QUESTIONS for name, runtime in runtimes.items()}
    assert {name: value for name, value in measured.items() if not 0 < value <= EXIT_BOUNDS[name]} == {}, measured


def test_reading_again_computes_the_windows_and_no_more(engine: Engine, questions: list[str], counts: Counts):
    asked = dict(candidates=CANDIDATES, rerank_count=10, budget_ms=None)
    for question in questions:
        engine.search(question, **asked)
    once = counts.computed
    for question in questions:
        engine.search(question, reread=REREAD, **asked)
    added = (counts.computed - 2 * once) / QUESTIONS
    assert 0 < added <= REREAD_BOUND, added


def test_the_counts_see_padding_and_calls(engine: Engine, counts: Counts):
    """So that the bounds can fail: a batch of unequal lengths is counted as what a padded graph computes."""
    tokenizer = engine.reranker.tokenizer
    batch = tokenizer.single(tokenizer.encode_many(["a b", "a b c d e f"]))
    engine.reranker.runtime.run(batch)
    assert counts.shapes == [(2, 8)]
    assert counts.real == 12
    assert counts.tokenised == 1


def test_questions_that_wait_together_share_an_encoding(
    engine: Engine, questions: list[str], counts: Counts, monkeypatch: pytest.MonkeyPatch
):
    run = OnnxRuntime._run

    def run_once_all_wait(self, batch: TokenBatch):
        give_up = time.monotonic() + 10
        while not counts.shapes and engine.batcher.waiting_jobs < QUESTIONS and time.monotonic() < give_up:
            time.sleep(0.001)
        return run(self, batch)

    monkeypatch.setattr(OnnxRuntime, "_run", run_once_all_wait)
    engine.search_many(questions, candidates=CANDIDATES)
    encodings = [shape for shape in counts.shapes if shape[1] == QUESTION_TOKENS + 2]
    assert sum(sequences for sequences, _ in encodings) == QUESTIONS
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
