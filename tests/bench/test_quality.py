"""An evaluation: its orders are those of what is served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ir_measures")

from tandem.bench.quality.evaluate import DENSE, ORDERS, evaluate, hits_file
from tandem.engine import Engine
from tandem.engine.build.beir import Judged
from tandem.engine.build.indexing import index_corpus
from tandem.engine.errors import CorpusError
from tandem.engine.scoring.effort import ENOUGH, FINALISTS, REREAD, Effort, depth_of

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


@pytest.mark.parametrize(
    ("effort", "read"),
    [("balanced", (ENOUGH, ENOUGH, REREAD)), ("thorough", (80, FINALISTS, REREAD))],  # the latter by the early exit
)
def test_it_measures_what_is_served_with_an_effort(engine: Engine, effort: Effort, read: tuple[int, ...]):
    quality = evaluate(engine, JUDGED, candidates=80, effort=effort)
    assert list(quality.metrics) == [DENSE, *ORDERS]
    assert (quality.effort, tuple(quality.read.values())) == (effort, read)
    for question in JUDGED.queries:
        found = engine.search(JUDGED.queries[question], candidates=80, effort=effort, budget_ms=None)
        assert (found.reranked, found.finalists, found.reread) == read
        hits = list(dict.fromkeys(hit.document for hit in found.hits))
        assert quality.runs["fused"][question][: len(hits)] == hits


def test_logits_of_both_readings_are_on_one_scale(engine: Engine, tmp_path: Path):
    asked: dict[str, Any] = dict(candidates=80, effort="quick")
    with hits_file(tmp_path / "hits.jsonl", JUDGED.qrels) as found:
        quality = evaluate(engine, JUDGED, found=found, **asked)
    assert quality.read["reread"] == depth_of("quick").reread
    lines = [json.loads(line) for line in (tmp_path / "hits.jsonl").read_text().splitlines()]
    for question, query in JUDGED.queries.items():
        hits = engine.search(query, top_k=80, budget_ms=None, **asked).hits
        assert [hit["passage"] for hit in lines if hit["query"] == question] == [hit.id for hit in hits]
        read = [hit for hit in hits if hit.rerank_score is not None]
        rest = [hit for hit in hits if hit.rerank_score is None]
        assert len(read) == depth_of("quick").reranked
        expected = [hit.document for hit in [*sorted(read, key=lambda hit: -hit.rerank_score), *rest]]
        assert quality.runs["rerank"][question] == list(dict.fromkeys(expected))


def test_without_a_reranker_there_is_recall_alone(engine: Engine):
    assert list(evaluate(engine, JUDGED, candidates=80, rerank=False).metrics) == [DENSE, "recall"]


def test_judgements_of_another_corpus_are_refused(engine: Engine):
    with pytest.raises(CorpusError):
        evaluate(engine, Judged({"a": "oil"}, {"a": {"elsewhere": 1}}))
