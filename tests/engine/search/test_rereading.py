"""Reading the best candidates again, window by window: their logits, their order, and what a budget leaves of it."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from tandem.engine import Engine
from tandem.engine.result import Hit, SearchResult
from tandem.engine.scheduling.batcher import Batcher
from tandem.engine.scheduling.cost_model import CostModel
from tandem.engine.scheduling.job import Job, Served
from tandem.engine.scoring.effort import EVERYTHING, RerankDepth
from tandem.engine.scoring.maxp import window_counts
from tandem.engine.search.rereading import LONGER
from tandem.engine.text.tokens import pack

QUERY = "how to sort a list of words"


@pytest.fixture
def engine(long_engine: Engine) -> Engine:
    return long_engine


def key(result: SearchResult) -> list[tuple[str, float]]:
    return [(hit.id, round(hit.score, 4)) for hit in result.hits]


def test_the_best_are_read_again_window_by_window(engine: Engine):
    query, asked = QUERY, dict(top_k=40, candidates=40, budget_ms=None)
    once = engine.search(query, depth=EVERYTHING, **asked)
    twice = engine.search(query, depth=RerankDepth(reread=5), **asked)
    assert (once.reread, twice.reread, twice.reranked, twice.degraded) == (0, 5, 40, None)
    assert_moved(engine, twice, once, 5)
    moved = {hit.id: hit.rerank_score for hit in twice.hits}
    assert any(abs(moved[hit.id] - hit.rerank_score) > 1e-3 for hit in once.hits[:5])  # or nothing was long enough


def assert_moved(engine: Engine, result: SearchResult, once: SearchResult, count: int) -> None:
    """The best `count` of `once` have moved a third of the way to their best window, but for their mean; hits fall."""
    logits = {hit.id: hit.rerank_score for hit in once.hits}
    moves = {hit.id: (best_window(engine, QUERY, hit) - logits[hit.id]) / 3 for hit in once.hits[:count]}
    for name, move in moves.items():
        logits[name] += move - float(np.mean(list(moves.values())))
    known = {hit.id: hit.rerank_score for hit in result.hits}
    assert known == pytest.approx({name: logits[name] for name in known}, abs=1e-5)
    scores = [hit.score for hit in result.hits]
    assert scores == sorted(scores, reverse=True)


def best_window(engine: Engine, query: str, hit: Hit) -> float:
    """The highest logit of 64 tokens of what the reranker reads of `hit`, or its whole logit where it has no more."""
    reranker = engine.reranker
    tokens = engine.collection.tokens(np.array([engine.collection.row_of(hit.id)]))
    ids = tokens[0].tolist()[: reranker.tokenizer.max_length]
    parts = [ids[start : start + 64] for start in [*range(0, max(1, len(ids) - 64), 32), max(0, len(ids) - 64)]]
    pairs = reranker.tokenizer.pairs(reranker.tokenizer.encode(query), pack(parts))
    return float(reranker.compute_all(pairs).max()) if len(ids) > 64 else hit.rerank_score


def test_all_layers_read_what_is_read_again(engine: Engine):
    result = engine.search(QUERY, candidates=40, depth=RerankDepth(4, reread=9), budget_ms=None)
    assert (result.reranked, result.finalists, result.reread, result.degraded) == (4, 4, 4, None)
    assert engine.search(QUERY, rerank=False, depth=RerankDepth(reread=9)).reread == 0


def test_many_at_once_equal_one_by_one(engine: Engine):
    queries, asked = [QUERY, "write bytes to a file", "thread lock"], dict(effort="quick", budget_ms=None)
    alone = [key(engine.search(query, **asked)) for query in queries]
    assert [key(result) for result in engine.search_many(queries, **asked)] == alone

    async def together() -> list[SearchResult]:
        return await asyncio.gather(*(engine.asearch(query, **asked) for query in queries))

    assert [key(result) for result in asyncio.run(together())] == alone


def test_passages_of_one_window_are_not_read_twice(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    lengths = {hit.id: length_of(engine, hit) for hit in engine.search(QUERY, top_k=60, candidates=60).hits}
    short = [name for name, length in lengths.items() if length <= 64]
    monkeypatch.setattr(Batcher, "run", forbid_more(3))  # the filter, recall, and all layers
    result = engine.search(
        QUERY, top_k=5, candidates=60, depth=RerankDepth(reread=5), budget_ms=None, filters={"short": True}
    )
    assert {hit.id for hit in result.hits} <= set(short)
    assert result.reread == 5


def forbid_more(runs: int) -> Any:
    left, run = iter(range(runs)), Batcher.run

    async def allowed(self: Batcher, job: Job) -> Served:
        next(left)
        return await run(self, job)

    return allowed


def length_of(engine: Engine, hit: Hit) -> int:
    return int(engine.collection.tokens(np.array([engine.collection.row_of(hit.id)])).lengths[0])


def windows_of(engine: Engine, hit: Hit) -> int:
    return int(window_counts(np.array([length_of(engine, hit)]), engine.reranker.tokenizer.max_length)[0])


def test_time_for_the_windows_is_put_by(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(CostModel, "each", lambda self, lengths: np.ones(len(lengths)))  # seconds a pair: of 59.9
    asked = dict(top_k=3, candidates=60, budget_ms=60_000)
    once = engine.search(QUERY, depth=EVERYTHING, **asked)
    twice = engine.search(QUERY, depth=RerankDepth(reread=6), **asked)
    lengths = engine.collection.tokens(np.arange(60)).lengths
    put_by = LONGER * 6 * window_counts(lengths, 128).mean()
    assert once.reranked == 59
    assert twice.reranked == int(59.9 - put_by) < 55
    assert twice.degraded == f"budget: {twice.reranked} of 60 candidates were reranked in time"
    assert twice.degraded_code == "fewer_candidates"
    assert twice.reread == 6


def test_it_is_not_put_by_where_too_few_would_be_read(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(CostModel, "each", lambda self, lengths: np.full(len(lengths), 4.0))  # 14 fit into 59.9
    result = engine.search(QUERY, top_k=3, candidates=60, depth=RerankDepth(reread=6), budget_ms=60_000)
    assert result.reranked == 14


def test_the_first_that_fit_are_read_again(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    asked = dict(top_k=20, candidates=20)
    once = engine.search(QUERY, depth=EVERYTHING, budget_ms=None, **asked)
    pair = len(engine.reranker.tokenizer.encode(QUERY)) + 64 + 3
    monkeypatch.setattr(CostModel, "each", lambda self, lengths: np.where(lengths == pair, 10.0, 0.0))  # of 59.9
    result = engine.search(QUERY, depth=RerankDepth(reread=6), budget_ms=60_000, **asked)
    fits = int((np.cumsum([windows_of(engine, hit) for hit in once.hits]) <= 5).sum())
    assert 0 < fits < 6
    check_first(engine, result, fits, once)


def test_a_passage_that_is_cut_is_not_read_again(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    asked = dict(top_k=20, candidates=20, budget_ms=None)
    once = engine.search(QUERY, depth=EVERYTHING, **asked)
    served, run = iter([20, 5]), Batcher.run  # all layers, then the windows; recall is submitted

    async def cut(self: Batcher, job: Job) -> Served:
        done = await run(self, job)
        last = next(served)
        return Served(done.results[:last] + [None] * len(done.results[last:]), done.queued, done.running)

    monkeypatch.setattr(Batcher, "run", cut)
    result = engine.search(QUERY, depth=RerankDepth(reread=6), **asked)
    fits = int((np.cumsum([windows_of(engine, hit) for hit in once.hits]) <= 5).sum())
    check_first(engine, result, fits, once)


def check_first(engine: Engine, result: SearchResult, fits: int, once: SearchResult) -> None:
    """The best `fits` of `once` were read again, and no other."""
    assert result.reread == fits
    assert (result.degraded_code, result.degraded) == (
        "fewer_reread",
        f"budget: {fits} of the 6 best were read again in time",
    )
    assert_moved(engine, result, once, fits)
