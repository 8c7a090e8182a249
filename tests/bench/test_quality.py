"""An evaluation, and the order that an early exit adds to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ir_measures")

from tandem.bench.quality.evaluate import DENSE, ORDERS, SERVED, evaluate, hits_file
from tandem.bench.workloads import reads_twice
from tandem.engine import Engine
from tandem.engine.build.beir import Judged
from tandem.engine.build.indexing import index_corpus
from tandem.engine.config import FINALISTS
from tandem.engine.errors import CorpusError

from .corpus import write_corpus

JUDGED = Judged({"a": "when did the oil crisis begin", "b": "a piano"}, {"a": {"3": 1}, "b": {"5": 1, "70": 2}})


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, exiting_cross_encoder: Path
) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("quality")
    index_corpus(write_corpus(folder, 80), folder / "c", encoder=tiny_bi_encoder, reranker=exiting_cross_encoder)
    with Engine.open(folder / "c", device="cpu", warm_up=False, reranker_precision="fp32") as opened:
        yield opened


def test_the_early_exit_is_an_order_of_its_own_where_it_is_taken(engine: Engine):
    assert reads_twice(engine, 80)
    quality = evaluate(engine, JUDGED, candidates=80)
    assert list(quality.metrics) == [DENSE, *ORDERS, SERVED]
    for ranked in quality.runs[SERVED].values():
        assert 0 < len(ranked) <= FINALISTS  # documents, of which some have two passages


@pytest.mark.parametrize("count", [FINALISTS, FINALISTS + 1])
def test_it_is_none_where_two_passes_would_take_longer(engine: Engine, count: int):
    assert not reads_twice(engine, count)
    quality = evaluate(engine, JUDGED, candidates=count)
    assert SERVED not in quality.metrics
    result = engine.search(JUDGED.queries["a"], candidates=count, budget_ms=None)
    assert (result.reranked, result.finalists) == (count, count)


def test_what_is_not_read_follows_in_the_order_of_evidence(engine: Engine):
    quality = evaluate(engine, JUDGED, candidates=80, rerank_count=5)
    assert list(quality.metrics) == [DENSE, *ORDERS]
    for question in JUDGED.queries:
        found = engine.search(JUDGED.queries[question], top_k=80, candidates=80, rerank_count=5, budget_ms=None)
        assert found.reranked == 5
        assert quality.runs["fused"][question] == list(dict.fromkeys(hit.document for hit in found.hits))


def test_logits_of_both_readings_are_on_one_scale(engine: Engine, tmp_path: Path):
    asked = dict(candidates=80, rerank_count=20, reread=4)
    with hits_file(tmp_path / "hits.jsonl", JUDGED.qrels) as found:
        quality = evaluate(engine, JUDGED, found=found, **asked)
    assert quality.reread == 4
    lines = [json.loads(line) for line in (tmp_path / "hits.jsonl").read_text().splitlines()]
    for question, query in JUDGED.queries.items():
        hits = engine.search(query, top_k=80, budget_ms=None, **asked).hits
        assert [hit["passage"] for hit in lines if hit["query"] == question] == [hit.id for hit in hits]
        read = [hit for hit in hits if hit.rerank_score is not None]
        rest = [hit for hit in hits if hit.rerank_score is None]
        assert len(read) == 20
        expected = [hit.document for hit in [*sorted(read, key=lambda hit: -hit.rerank_score), *rest]]
        assert quality.runs["rerank"][question] == list(dict.fromkeys(expected))


def test_without_a_reranker_there_is_recall_alone(engine: Engine):
    assert list(evaluate(engine, JUDGED, candidates=80, rerank=False).metrics) == [DENSE, "recall"]


def test_judgements_of_another_corpus_are_refused(engine: Engine):
    with pytest.raises(CorpusError):
        evaluate(engine, Judged({"a": "oil"}, {"a": {"elsewhere": 1}}))
