"""Reading the best candidates again, window by window: their logits, their order, and what a budget leaves of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tandem.engine import Engine
from tandem.engine.budget import CostModel
from tandem.engine.collection import IndexSettings
from tandem.engine.indexing import index_corpus
from tandem.engine.result import Hit, SearchResult
from tandem.engine.tokens import pack
from tandem.engine.windows import window_counts
from tandem.export.samples import docstrings

QUERY = "how to sort a list of words"


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, exiting_cross_encoder: Path
) -> Iterator[Engine]:
    """Of 60 passages of 5 to 119 words: the longest have more tokens than the reranker reads."""
    folder = tmp_path_factory.mktemp("long")
    words, random = " ".join(docstrings()[:200]).split(), np.random.default_rng(0)
    texts = [" ".join(random.choice(words, size)) for size in random.integers(5, 120, 60)]
    rows = [json.dumps({"_id": str(row), "text": text}) for row, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("\n".join(rows))
    index_corpus(
        folder / "corpus.jsonl", folder / "c", encoder=tiny_bi_encoder, reranker=exiting_cross_encoder,
        settings=IndexSettings(chunk_tokens=0),
    )  # fmt: skip
    with Engine.open(folder / "c", device="cpu", warm_up=False, reranker_precision="fp32") as opened:
        yield opened


def key(result: SearchResult) -> list[tuple[str, float]]:
    return [(hit.id, round(hit.score, 4)) for hit in result.hits]


def test_the_best_are_read_again_window_by_window(engine: Engine):
    query, asked = QUERY, dict(top_k=40, candidates=40, finalists=None, budget_ms=None)
    once, twice = engine.search(query, **asked), engine.search(query, reread=5, **asked)
    assert (once.reread, twice.reread, twice.reranked, twice.degraded) == (0, 5, 40, None)
    assert {hit.id for hit in twice.hits[:5]} == {hit.id for hit in once.hits[:5]}
    assert key(twice)[5:] == key(once)[5:]

    logits = {hit.id: hit.rerank_score for hit in once.hits}
    expected = {hit.id: (2 * logits[hit.id] + best_window(engine, query, hit)) / 3 for hit in once.hits[:5]}
    assert [hit.rerank_score for hit in twice.hits[:5]] == pytest.approx(
        [expected[hit.id] for hit in twice.hits[:5]], abs=1e-5
    )
    assert any(abs(expected[hit.id] - hit.rerank_score) > 1e-3 for hit in once.hits[:5])  # or nothing was long enough
    scores = [hit.score for hit in twice.hits[:5]]
    assert scores == sorted(scores, reverse=True)


def best_window(engine: Engine, query: str, hit: Hit) -> float:
    """The highest logit of 64 tokens of what the reranker reads of `hit`, or its whole logit where it has no more."""
    reranker = engine.reranker
    tokens = engine.collection.tokens(np.array([engine.collection.row_of(hit.id)]))
    ids = tokens[0].tolist()[: reranker.tokenizer.max_length]
    parts = [ids[start : start + 64] for start in [*range(0, max(1, len(ids) - 64), 32), max(0, len(ids) - 64)]]
    pairs = reranker.tokenizer.pairs(reranker.tokenizer.encode(query), pack(parts))
    return float(reranker.compute_all(pairs).max()) if len(ids) > 64 else hit.rerank_score


def test_no_more_are_read_again_than_all_layers_read(engine: Engine):
    result = engine.search(QUERY, candidates=40, rerank_count=4, reread=9, budget_ms=None)
    assert (result.reranked, result.finalists, result.reread) == (4, 4, 4)
    result = engine.search(QUERY, top_k=3, candidates=40, finalists=6, reread=9, budget_ms=None)
    assert (result.reranked, result.finalists, result.reread) == (40, 6, 6)
    assert engine.search(QUERY, rerank=False, reread=9).reread == 0


def test_time_for_reading_again_is_kept(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[int, float]] = []

    def fitting(self: CostModel, lengths: Any, seconds: float) -> int:
        asked.append((len(lengths), seconds))
        return len(lengths)

    monkeypatch.setattr(CostModel, "fitting", fitting)
    monkeypatch.setattr(CostModel, "each", lambda self, lengths: np.full(len(lengths), 0.5))  # seconds a pair
    engine.search(QUERY, top_k=3, candidates=20, finalists=None, reread=6, budget_ms=60_000)
    (first, checked), (second, whole), (windows, again) = asked
    assert (first, second) == (20, 20)
    assert 0 < windows <= 6 * 3  # of at most 128 tokens
    kept = again - whole  # but for the time that reading took
    lengths = engine.collection.tokens(np.arange(len(engine.collection))).lengths
    mean = window_counts(np.minimum(lengths, 128)).mean()
    assert checked == pytest.approx(whole, abs=0.1)
    assert 0.5 * 6 * 0.5 * mean < kept < 0.5 * 6 * 1.5 * mean


@pytest.mark.parametrize("fits", [[20, 20, 0], [0, 20, 0]])
def test_without_time_to_read_all_of_the_best_again_none_is(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, fits: list[int]
):
    asked = dict(top_k=3, candidates=20, finalists=None)
    once = engine.search(QUERY, budget_ms=None, **asked)
    answers = iter(fits)  # both readings; the first of them; the windows
    monkeypatch.setattr(CostModel, "fitting", lambda self, lengths, seconds: next(answers))
    result = engine.search(QUERY, reread=3, budget_ms=60_000, **asked)
    assert (result.reranked, result.reread) == (20, 0)
    assert result.degraded == "budget: no time to read the best 3 again"
    assert key(result) == key(once)
