"""Reused logits give the order that a search gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("bm25s")

from tandem.bench.quality.bm25 import bm25
from tandem.bench.quality.replay import candidate_lists, read_logits, reranked
from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus
from tandem.engine.collection import IndexSettings
from tandem.engine.scoring.effort import RerankDepth

from .corpus import write_corpus

QUESTIONS = {"a": "when did the oil crisis begin", "b": "a piano and a ladder", "c": "river bank"}


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, tiny_cross_encoder: Path
) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("curve")
    index_corpus(
        write_corpus(folder, 60), folder / "collection", encoder=tiny_bi_encoder, reranker=tiny_cross_encoder,
        threads=1, settings=IndexSettings(chunk_tokens=0),
    )  # fmt: skip
    # INT8 runs each pair alone, so that a logit is the same to the last bit whatever is read with it.
    settings = dict(device="cpu", threads=1, warm_up=False, reranker_precision="int8", recall_weight=3.0)
    with Engine.open(folder / "collection", **settings) as opened:
        yield opened


@pytest.mark.parametrize("count", [1, 7, 60])
def test_fewer_candidates_reuse_the_logits_of_more(engine: Engine, count: int):
    recalled = candidate_lists(engine, QUESTIONS, 60)
    say = lambda done, total, what: None  # noqa: E731
    logits = read_logits(engine, engine.reranker, QUESTIONS, recalled, 60, None, say)
    fewer = read_logits(engine, engine.reranker, QUESTIONS, recalled, count, None, say)
    assert all(np.array_equal(fewer[name], logits[name][:count]) for name in QUESTIONS)
    run = reranked(recalled, logits, count, engine.fusion)
    for name, question in QUESTIONS.items():
        result = engine.search(question, top_k=60, candidates=60, depth=RerankDepth(count), budget_ms=None)
        assert run[name] == list(dict.fromkeys(hit.document for hit in result.hits))
        assert sorted(run[name]) == sorted(recalled[name].documents), "nothing is lost behind the reranked"


def test_shorter_pairs_change_only_those_that_are_longer(engine: Engine):
    recalled = candidate_lists(engine, QUESTIONS, 60)
    say = lambda done, total, what: None  # noqa: E731
    whole = read_logits(engine, engine.reranker, QUESTIONS, recalled, 60, None, say)
    same = read_logits(engine, engine.reranker, QUESTIONS, recalled, 60, 4096, say)
    short = read_logits(engine, engine.reranker, QUESTIONS, recalled, 60, 24, say)
    tokenizer = engine.reranker.tokenizer
    for name, question in QUESTIONS.items():
        assert np.array_equal(whole[name], same[name])
        pairs = tokenizer.pairs(tokenizer.encode(question), engine.collection.tokens(recalled[name].rows))
        assert np.array_equal(whole[name] != short[name], pairs.lengths > 24)


def test_bm25_finds_the_passage_with_the_rare_words(engine: Engine):
    texts = engine.collection.texts(np.arange(60))
    found = bm25(engine.collection, QUESTIONS, 60)
    best = engine.collection.row_of(found["c"][0])
    assert "river" in texts[best] or "bank" in texts[best]
    holding = {row for row, words in enumerate(texts) if {"river", "bank"} & set(words.split())}
    assert {engine.collection.row_of(name) for name in found["c"][: len(holding)]} == holding
