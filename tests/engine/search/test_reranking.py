"""The second stage with an early exit: what each candidate is read with, and what a budget leaves of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus
from tandem.engine.result import SearchResult
from tandem.engine.scheduling.cost_model import CostModel
from tandem.engine.scoring.effort import EVERYTHING, RerankDepth
from tandem.engine.search.reranking import ReadingPlan, reading_plan

QUESTIONS = ("how to sort a list of words", "write bytes to a file", "the time zone of a date", "thread lock")
OPEN: dict[str, Any] = dict(device="cpu", warm_up=False, reranker_precision="fp32")


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, exiting_cross_encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("collection") / "c"
    index_corpus("python:json,threading,zipfile", folder, encoder=tiny_bi_encoder, reranker=exiting_cross_encoder)
    return folder


@pytest.fixture(scope="module")
def engine(collection: Path) -> Iterator[Engine]:
    with Engine.open(collection, **OPEN) as opened:
        yield opened


def key(result: SearchResult) -> list[tuple[str, float]]:
    """By what they say: of passages with equal texts, the last bit of a sum decides which one comes first."""
    return [(f"{hit.title} {hit.text}", round(hit.score, 4)) for hit in result.hits]


def test_finalists_are_the_best_by_the_exit_and_have_the_whole_models_logits(engine: Engine):
    query = QUESTIONS[0]
    every = engine.search(query, top_k=40, candidates=40, budget_ms=None, depth=EVERYTHING)
    assert (every.reranked, every.finalists) == (40, 40)
    result = engine.search(query, top_k=5, candidates=40, depth=RerankDepth(finalists=8), budget_ms=None)
    assert (result.reranked, result.finalists, result.candidates, result.degraded) == (40, 8, 40, None)

    texts = [f"{hit.title} {hit.text}" for hit in every.hits]
    fusion, early = engine.fusion, engine.reranker.early.score(query, texts)
    evidence = np.array([hit.recall_score + fusion.lexical_weight * hit.lexical_score for hit in every.hits])
    going = np.argsort(-(early + fusion.recall_weight * evidence), kind="stable")[:8]
    expected = [every.hits[place].id for place in sorted(going)]  # in the whole model's order
    assert [hit.id for hit in result.hits] == expected[:5]
    assert expected[:5] != [hit.id for hit in every.hits[:5]]  # or the exit would have dropped nothing
    whole = {hit.id: hit.rerank_score for hit in every.hits}
    assert [hit.rerank_score for hit in result.hits] == pytest.approx([whole[hit.id] for hit in result.hits], abs=1e-6)


def test_without_finalists_or_without_the_exit_all_layers_read_all(collection: Path, engine: Engine):
    with Engine.open(collection, early_exit=False, **OPEN) as plain:
        assert plain.reranker.early is None
        for query in QUESTIONS:
            every = engine.search(query, depth=EVERYTHING, budget_ms=None)
            assert key(every) == key(plain.search(query, depth=EVERYTHING, budget_ms=None))
            thorough = plain.search(query, effort="thorough", budget_ms=None)
            assert thorough.finalists == thorough.reranked == thorough.candidates
            assert every.finalists == every.reranked == every.candidates
        assert "early exit" in plain.choices


def test_so_many_are_read_of_those_with_the_best_evidence(engine: Engine):
    query = QUESTIONS[0]
    every = engine.search(query, top_k=40, candidates=40, budget_ms=None, depth=EVERYTHING)
    result = engine.search(query, top_k=40, candidates=40, depth=RerankDepth(6), budget_ms=None)
    assert (result.reranked, result.finalists, result.candidates, result.degraded) == (6, 6, 40, None)
    weight = engine.fusion.lexical_weight
    best = sorted(every.hits, key=lambda hit: -(hit.recall_score + weight * hit.lexical_score))[:6]
    read = [hit.id for hit in result.hits if hit.rerank_score is not None]
    assert {*read} == {hit.id for hit in best}
    assert read == [hit.id for hit in every.hits if hit.id in {*read}]
    rest = [hit.recall_score + weight * hit.lexical_score for hit in result.hits if hit.rerank_score is None]
    assert len(rest) == 34
    assert rest == sorted(rest, reverse=True)
    scores = [hit.score for hit in result.hits]
    assert scores == sorted(scores, reverse=True)


def test_no_more_are_read_than_are_recalled_and_the_exit_is_taken_where_it_saves(engine: Engine):
    query = QUESTIONS[0]
    asked = dict(candidates=30, budget_ms=None)
    every = key(engine.search(query, depth=EVERYTHING, **asked))
    assert key(engine.search(query, depth=RerankDepth(200), **asked)) == every
    result = engine.search(query, top_k=5, candidates=80, depth=RerankDepth(50, 8), budget_ms=None)
    assert (result.reranked, result.finalists, result.degraded) == (50, 8, None)


def test_many_at_once_equal_one_by_one(engine: Engine):
    asked = dict(candidates=80, effort="thorough", budget_ms=None)
    alone = [key(engine.search(question, **asked)) for question in QUESTIONS]
    assert [key(result) for result in engine.search_many(QUESTIONS, **asked)] == alone

    async def together() -> list[SearchResult]:
        return await asyncio.gather(*(engine.asearch(question, **asked) for question in QUESTIONS))

    assert [key(result) for result in asyncio.run(together())] == alone


def test_finalists_without_time_keep_the_exits_order(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    fits = iter([3, 2])  # all layers: of all candidates, then of the finalists
    monkeypatch.setattr(type(engine.reranker.cost), "fitting", fitting(engine, lambda: next(fits)))
    result = engine.search(QUESTIONS[1], top_k=6, candidates=30, depth=RerankDepth(finalists=6), budget_ms=60_000)
    assert (result.reranked, result.finalists) == (30, 2)
    assert result.degraded == "budget: 2 of 6 finalists were read by all layers in time"
    assert result.degraded_code == "fewer_finalists"
    scores = [hit.score for hit in result.hits]
    assert scores == sorted(scores, reverse=True)
    texts = [f"{hit.title} {hit.text}" for hit in result.hits]
    early, whole = engine.reranker.early.score(QUESTIONS[1], texts), engine.reranker.score(QUESTIONS[1], texts)
    evidence = np.float32([hit.recall_score + engine.fusion.lexical_weight * hit.lexical_score for hit in result.hits])
    expected = engine.fusion.scale.after_exit(engine.reranker.artifact.manifest.early, early, evidence)
    off = [min(abs(hit.rerank_score - one), abs(hit.rerank_score - other)) for hit, one, other
           in zip(result.hits, whole, expected, strict=True)]  # fmt: skip
    assert max(off) < 1e-5


def test_a_budget_too_small_for_the_exit_reads_what_fits_with_all_layers(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(type(engine.reranker.cost), "fitting", lambda self, lengths, seconds: 7)
    result = engine.search(QUESTIONS[1], top_k=6, candidates=30, depth=RerankDepth(finalists=6), budget_ms=60_000)
    assert (result.reranked, result.finalists) == (7, 7)
    assert result.degraded == "budget: 7 of 30 candidates were reranked in time"
    assert result.degraded_code == "fewer_candidates"


def fitting(engine: Engine, whole: Any) -> Any:
    """A `CostModel.fitting` by which everything fits the exit, and what `whole` says fits all layers."""
    return lambda self, lengths, seconds: len(lengths) if self is engine.reranker.early.cost else whole()


@dataclass
class Costs:
    cost: CostModel
    early: Any = None


WHOLE, EXIT = CostModel(0.0, 1e-4, 0.0, 512), CostModel(0.0, 2.5e-5, 0.0, 512)
LENGTHS = np.full(100, 100)
BOTH = Costs(WHOLE, Costs(EXIT))


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (None, (100, 20)),  # 10 ms a candidate with all layers, 2.5 ms with the exit
        (10.0, (100, 20)),
        (0.4501, (100, 20)),  # just all: 100 · 2.5 + 20 · 10
        (0.3501, (60, 20)),
        (0.2301, (0, 23)),  # the exit would read 12
        (0.0501, (0, 5)),
        (-1.0, (0, 0)),
    ],
)
def test_the_plan_takes_the_exit_where_it_reads_more(left: float | None, expected: tuple[int, int]):
    found = reading_plan(LENGTHS, BOTH, 20, left)
    assert (found.early, found.whole) == expected


def test_the_plan_reads_with_all_layers_what_two_passes_would_not_save():
    assert reading_plan(LENGTHS, BOTH, 75, None) == ReadingPlan(
        0, 100
    )  # 2.5 ms · 100 + 10 ms · 75 are all layers' second
    assert reading_plan(LENGTHS, BOTH, 74, None).early == 100
    assert reading_plan(LENGTHS[:26], BOTH, 20, None) == ReadingPlan(0, 26)
    assert reading_plan(LENGTHS[:26], BOTH, 20, 0.1501) == ReadingPlan(0, 15)


def test_before_anything_is_measured_an_exit_is_taken_for_its_share_of_layers(engine: Engine):
    whole, early = engine.reranker.cost, engine.reranker.early.cost
    layers = engine.reranker.artifact.architecture()["num_hidden_layers"]
    share = engine.reranker.artifact.manifest.early / layers
    assert early.token == pytest.approx(share * whole.token)
    assert early.pace is whole.pace


def test_the_plan_without_an_exit():
    assert reading_plan(LENGTHS, Costs(WHOLE), 20, None) == ReadingPlan(0, 100)
    assert reading_plan(LENGTHS, Costs(WHOLE), 20, 0.2501) == ReadingPlan(0, 25)
    assert reading_plan(LENGTHS, BOTH, None, None) == reading_plan(LENGTHS, BOTH, 100, None) == ReadingPlan(0, 100)
