"""One score for everything that is returned, and the relevance that follows from it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tandem.engine import Engine, InputError
from tandem.engine.build.indexing import index_corpus
from tandem.engine.collection import FittedWeights, write_fusion
from tandem.engine.scoring.effort import EVERYTHING, REREAD, RerankDepth
from tandem.engine.scoring.fusion import Fusion
from tandem.engine.scoring.scale import ExpectedLogit, Relevance, Scale

QUESTIONS = ("how to sort a list of words", "write bytes to a file", "the time zone of a date", "thread lock")
OPEN: dict[str, Any] = dict(device="cpu", warm_up=False, reranker_precision="fp32")
SCALE = Scale(
    unread=ExpectedLogit(offset=-1.0, evidence=1.5),
    exits=dict.fromkeys((1, 2), ExpectedLogit(offset=0.1, logit=0.8, evidence=0.3)),
    relevance=Relevance(offset=-0.5, slope=0.7),
)
FUSION = Fusion(recall_weight=1.5, scale=SCALE, enough=33, fitted_on="a test")


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, exiting_cross_encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("collection") / "c"
    index_corpus("python:json,threading,zipfile", folder, encoder=tiny_bi_encoder, reranker=exiting_cross_encoder)
    with Engine.open(folder, **OPEN) as engine:
        marks = (engine.encoder.artifact.fingerprint, engine.reranker.artifact.fingerprint)
    write_fusion(folder, FittedWeights(encoder=marks[0], reranker=marks[1], fusion=FUSION))
    return folder


@pytest.fixture(scope="module")
def engine(collection: Path) -> Iterator[Engine]:
    with Engine.open(collection, **OPEN) as opened:
        assert opened.reranker.artifact.manifest.early in SCALE.exits
        yield opened


READ = [
    {}, {"effort": "quick"}, {"depth": RerankDepth(5)}, {"depth": RerankDepth(finalists=8), "top_k": 5},
    {"depth": RerankDepth(finalists=8, reread=4)}, {"depth": RerankDepth(12, 4), "top_k": 3}, {"rerank": False},
]  # fmt: skip


@pytest.mark.parametrize("asked", READ)
@pytest.mark.parametrize("query", QUESTIONS)
def test_scores_fall_whatever_was_read(engine: Engine, query: str, asked: dict[str, Any]):
    found = engine.search(query, **{"top_k": 40, "candidates": 40, "budget_ms": None} | asked)
    scores = [hit.score for hit in found.hits]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == asked.get("top_k", 40)


@pytest.mark.parametrize("fits", [0, 1, 3, 9])
def test_scores_fall_when_time_runs_out(engine: Engine, monkeypatch: pytest.MonkeyPatch, fits: int):
    monkeypatch.setattr(type(engine.reranker.cost), "fitting", lambda self, lengths, seconds: min(fits, len(lengths)))
    found = engine.search(QUESTIONS[0], top_k=20, candidates=30, depth=RerankDepth(finalists=8), budget_ms=60_000)
    assert found.degraded_code is not None
    scores = [hit.score for hit in found.hits]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < hit.relevance < 1 for hit in found.hits)


@pytest.mark.parametrize(
    ("asked", "fits", "kinds"),
    [
        (dict(top_k=40, candidates=40, depth=RerankDepth(30)), [30], {"whole", "unread"}),
        # What fits all layers: of all candidates, and then of the finalists.
        (dict(top_k=12, candidates=30, depth=RerankDepth(finalists=12)), [3, 8], {"exit"}),
    ],
)
def test_each_score_is_the_logit_that_was_read_or_is_expected_with_the_evidence(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], fits: list[int], kinds: set[str]
):
    early, left = engine.reranker.early, iter(fits)
    with monkeypatch.context() as patch:
        patch.setattr(
            type(engine.reranker.cost), "fitting",
            lambda self, lengths, seconds: len(lengths) if self is early.cost else next(left),
        )  # fmt: skip
        found = engine.search(QUESTIONS[1], budget_ms=60_000, **asked)
    seen = set()
    for hit in found.hits:
        evidence = hit.recall_score + FUSION.lexical_weight * hit.lexical_score
        text = f"{hit.title} {hit.text}"
        whole, begun = (float(model.score(QUESTIONS[1], [text])[0]) for model in (engine.reranker, early))
        expected = {
            "whole": whole, "exit": 0.1 + 0.8 * begun + 0.3 * evidence, "unread": -1.0 + 1.5 * evidence,
        }  # fmt: skip
        if hit.rerank_score is None:
            kind = "unread"
        else:
            kind = min(("whole", "exit"), key=lambda name: abs(expected[name] - hit.rerank_score))
            assert hit.rerank_score == pytest.approx(expected[kind], abs=1e-4)
        seen.add(kind)
        assert hit.score == pytest.approx(expected[kind] + 1.5 * evidence, abs=1e-4)
        assert hit.relevance == pytest.approx(1 / (1 + math.exp(0.5 - 0.7 * hit.score)), abs=1e-6)
    assert seen >= kinds


def test_a_balanced_search_reads_as_many_as_were_found_to_be_enough(engine: Engine):
    found = engine.search(QUESTIONS[0], budget_ms=None)
    assert (found.reranked, found.finalists, found.reread, found.degraded) == (33, 33, REREAD, None)
    assert engine.search(QUESTIONS[0], effort="thorough", budget_ms=None).reranked == found.candidates


def test_min_relevance_drops_what_is_below_before_hits_are_counted(engine: Engine):
    asked = dict(candidates=40, depth=EVERYTHING, budget_ms=None)
    every = engine.search(QUESTIONS[0], top_k=40, **asked).hits
    least = every[12].relevance
    kept = engine.search(QUESTIONS[0], top_k=40, min_relevance=least, **asked).hits
    assert [hit.id for hit in kept] == [hit.id for hit in every if hit.relevance >= least]
    assert 13 <= len(kept) < 40
    assert engine.search(QUESTIONS[0], top_k=5, min_relevance=least, **asked).hits == kept[:5]
    assert engine.search(QUESTIONS[0], min_relevance=1.0, **asked).hits == []


def test_where_the_relevance_is_not_known_it_is_none_and_asking_for_it_is_refused(
    collection: Path, engine: Engine, tmp_path: Path, tiny_bi_encoder: Path
):
    assert [hit.relevance for hit in engine.search(QUESTIONS[0], rerank=False).hits] == [None] * 10
    with pytest.raises(InputError, match="min_relevance is known of what was reranked"):
        engine.search(QUESTIONS[0], rerank=False, min_relevance=0.5)
    with pytest.raises(InputError, match=r"setting min_relevance = 1\.5"):
        engine.search(QUESTIONS[0], min_relevance=1.5)
    with Engine.open(collection, recall_weight=3.0, **OPEN) as other:
        assert (other.fusion.scale, other.fusion.enough) == (Scale(), None), "they were fitted for other weights"
        assert other.search(QUESTIONS[0]).hits[0].relevance is None
        with pytest.raises(InputError, match=r"`tandem calibrate .* BEIR` fits them to judged questions"):
            other.search(QUESTIONS[0], min_relevance=0.5)
    index_corpus("python:json", tmp_path / "c", encoder=tiny_bi_encoder)
    with Engine.open(tmp_path / "c", **OPEN) as bare:
        assert bare.search(QUESTIONS[0]).hits[0].relevance is None
        with pytest.raises(InputError, match="min_relevance needs a reranker"):
            bare.search(QUESTIONS[0], min_relevance=0.5)


def test_it_is_in_the_json(engine: Engine):
    hits = json.loads(json.dumps(engine.search(QUESTIONS[0], budget_ms=None).to_dict()))["hits"]
    assert 0 < hits[0]["relevance"] < 1
