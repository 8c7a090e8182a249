"""The engine end to end, on a small collection with tiny random-weight models."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from tandem.engine import CollectionError, Engine, EngineClosed, InputError
from tandem.engine.build.indexing import index_corpus
from tandem.engine.search.model_api import BLANK
from tandem.engine.search.two_stage import NO_RERANKER

QUESTIONS = ("how to sort a list of words", "write bytes to a file", "the time zone of a date", "a", "thread lock")


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, tiny_cross_encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("collection")
    index_corpus("python:json,threading,zipfile", folder / "c", encoder=tiny_bi_encoder, reranker=tiny_cross_encoder)
    return folder / "c"


@pytest.fixture(scope="module")
def engine(collection: Path):
    with Engine.open(collection, device="cpu", warm_up=False, reranker_precision="fp32") as opened:
        yield opened


def key(result) -> list[tuple[str, float]]:
    return [(hit.id, round(hit.score, 4)) for hit in result.hits]


def test_both_stages_agree_with_an_exhaustive_oracle(engine: Engine):
    """Recall is exact search over all vectors and words; a logit is the cross-encoder's on the text pair."""
    result = engine.search(QUESTIONS[0], top_k=20, candidates=20, budget_ms=None)
    vector = engine.embed([QUESTIONS[0]])[0].astype(np.float64)
    cosines = engine.collection.index.vectors.astype(np.float64) @ vector
    rows, shares = engine.collection.lexical.search(QUESTIONS[0], 20)
    words = np.zeros(len(cosines))
    words[rows] = shares
    either = np.union1d(np.argsort(-cosines, kind="stable")[:20], rows)
    evidence = (cosines + engine.fusion.lexical_weight * words)[either]
    expected = engine.collection.ids(either[np.argsort(-evidence, kind="stable")[:20]])
    by_recall = sorted(result.hits, key=lambda hit: hit.recall_rank)
    assert [hit.id for hit in by_recall] == expected
    logits = engine.reranker.score(QUESTIONS[0], [f"{hit.title} {hit.text}" for hit in result.hits])
    np.testing.assert_allclose([hit.rerank_score for hit in result.hits], logits, atol=1e-5)
    for hit in result.hits:
        evidence = hit.recall_score + engine.fusion.lexical_weight * hit.lexical_score
        assert hit.score == pytest.approx(hit.rerank_score + engine.fusion.recall_weight * evidence, abs=1e-5)
    assert [hit.score for hit in result.hits] == sorted((hit.score for hit in result.hits), reverse=True)
    assert (result.reranked, result.candidates, result.degraded) == (20, 20, None)


def test_many_at_once_equal_one_by_one(engine: Engine):
    alone = [key(engine.search(question, budget_ms=None)) for question in QUESTIONS]
    assert [key(result) for result in engine.search_many(QUESTIONS)] == alone

    async def together() -> list:
        return await asyncio.gather(*(engine.asearch(question, budget_ms=None) for question in QUESTIONS))

    assert [key(result) for result in asyncio.run(together())] == alone
    answers: dict[str, list] = {}
    threads = [
        threading.Thread(target=lambda q=question: answers.update({q: key(engine.search(q, budget_ms=None))}))
        for question in QUESTIONS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[question] for question in QUESTIONS] == alone


def evidence_of(engine: Engine, result) -> list[float]:
    """Of each hit, as its score would be if it was not read."""
    weight = engine.fusion.lexical_weight
    return [pytest.approx(hit.recall_score + weight * hit.lexical_score, abs=1e-6) for hit in result.hits]


def test_recall_alone(engine: Engine):
    result = engine.search(QUESTIONS[1], rerank=False)
    assert [hit.recall_rank for hit in result.hits] == list(range(1, 11))
    assert all(hit.rerank_score is None for hit in result.hits)
    assert [hit.score for hit in result.hits] == evidence_of(engine, result)
    assert [hit.score for hit in result.hits] == sorted((hit.score for hit in result.hits), reverse=True)
    assert (result.reranked, result.degraded) == (0, None)


def test_an_impossible_budget_gives_the_order_of_the_evidence_and_says_so(engine: Engine):
    result = engine.search(QUESTIONS[1], budget_ms=0.001)
    assert result.reranked == 0
    assert "budget" in result.degraded
    assert [hit.score for hit in result.hits] == evidence_of(engine, result)
    assert [hit.score for hit in result.hits] == sorted((hit.score for hit in result.hits), reverse=True)


def test_a_tight_budget_reranks_the_first_of_recall(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(type(engine.reranker.cost), "fitting", lambda self, lengths, seconds: 7)
    result = engine.search(QUESTIONS[1], top_k=30, candidates=30, budget_ms=60_000)
    assert result.reranked == 7
    assert "7 of 30" in result.degraded
    assert sorted(hit.recall_rank for hit in result.hits[:7]) == list(range(1, 8))
    assert sorted(hit.recall_rank for hit in result.hits[7:]) == list(range(8, 31))
    lowest = min(hit.rerank_score for hit in result.hits[:7])
    assert [hit.score for hit in result.hits[7:]] == [pytest.approx(lowest)] * 23, "nothing was fitted for these models"


def test_under_a_budget_those_with_the_best_evidence_are_read(collection: Path, monkeypatch: pytest.MonkeyPatch):
    with Engine.open(
        collection, device="cpu", warm_up=False, recall_weight=1.0, lexical_weight=3.0, reranker_precision="fp32"
    ) as engine:
        monkeypatch.setattr(type(engine.reranker.cost), "fitting", lambda self, lengths, seconds: 7)
        result = engine.search(QUESTIONS[1], top_k=30, candidates=30, budget_ms=60_000)
        full = engine.search(QUESTIONS[1], top_k=30, candidates=30, budget_ms=None)
    read = [hit for hit in result.hits if hit.rerank_score is not None]
    left = [hit for hit in result.hits if hit.rerank_score is None]
    assert len(read) == 7
    evidence = {hit.id: hit.recall_score + 3.0 * hit.lexical_score for hit in result.hits}
    assert min(evidence[hit.id] for hit in read) >= max(evidence[hit.id] for hit in left)
    assert {hit.recall_rank for hit in read} != set(range(1, 8))  # or this says nothing
    assert [hit.score for hit in left] == sorted((hit.score for hit in left), reverse=True)
    logits = {hit.id: hit.rerank_score for hit in full.hits}
    assert [hit.rerank_score for hit in read] == pytest.approx([logits[hit.id] for hit in read], abs=1e-5)


def test_timings_add_up(engine: Engine):
    timings = engine.search(QUESTIONS[2], budget_ms=None).timings
    parts = [timings.tokenize, timings.encode, timings.recall, timings.fetch, timings.rerank]
    assert all(part > 0 for part in parts)
    assert sum(parts) <= timings.total


@pytest.mark.parametrize(
    ("query", "settings", "message"),
    [
        ("", {}, "empty"),
        (" \n\t", {}, "empty"),
        (None, {}, "must be text"),
        ("lone \ud800 surrogate", {}, "not valid Unicode"),
        ("q", {"top_k": 11, "candidates": 10}, "top_k"),
        ("q", {"limit": 3}, "limit"),
    ],
)
def test_bad_input_is_one_clear_error(engine: Engine, query: object, settings: dict, message: str):
    with pytest.raises(InputError, match=message):
        engine.search(query, **settings)


def test_an_endless_query_is_cut_and_reported(engine: Engine):
    result = engine.search("word " * 20_000)
    assert result.truncated
    assert len(result.hits) == 10
    assert not engine.search("word").truncated


def test_more_candidates_than_passages(engine: Engine):
    result = engine.search("q", top_k=2000, candidates=2000, rerank=False)
    assert len(result.hits) == len(engine.collection) == result.candidates


def test_rerank_takes_texts_or_stored_ids(engine: Engine):
    result = engine.search(QUESTIONS[0], budget_ms=None)
    ids = [hit.id for hit in result.hits]
    by_id = engine.rerank(QUESTIONS[0], ids=ids)
    by_text = engine.rerank(QUESTIONS[0], [f"{hit.title} {hit.text}" for hit in result.hits])
    assert [hit.index for hit in by_id] == [hit.index for hit in by_text]
    np.testing.assert_allclose([hit.score for hit in by_id], [hit.score for hit in by_text], atol=1e-5)
    scores = {hit.id: hit.rerank_score for hit in result.hits}
    assert {hit.id: pytest.approx(hit.score, abs=1e-5) for hit in by_id} == scores
    assert engine.rerank("q", []) == []
    with pytest.raises(InputError, match="one of the two"):
        engine.rerank("q")
    with pytest.raises(InputError, match="no passage"):
        engine.rerank("q", ids=["nowhere"])
    with pytest.raises(InputError, match="text 1 must be text, not int"):
        engine.rerank("q", ["fine", 1])  # type: ignore[list-item]


def test_a_text_is_cut_on_the_side_that_was_asked_for(engine: Engine):
    first, last = "open a file " * 30_000, "sort the list"

    async def scores(text: str, **settings: object) -> list[float]:
        result = await engine.arerank("q", [text], **settings)
        return [passage.score for passage in result.passages]

    count = engine.reranker.tokenizer.count
    cut = asyncio.run(scores(first + last, truncate="left", passage_tokens=count(last)))
    assert cut == pytest.approx(asyncio.run(scores(last)), abs=1e-5)
    cut = asyncio.run(scores(first + last, truncate="right", passage_tokens=count("open a file")))
    assert cut == pytest.approx(asyncio.run(scores("open a file")), abs=1e-5)
    with pytest.raises(InputError, match="longer than"):
        asyncio.run(scores(first, truncate="never"))
    for wrong in (False, "Left"):
        with pytest.raises(InputError, match=r"truncate .* is unknown; choose right, left, never"):
            asyncio.run(scores("a file", truncate=wrong))
        with pytest.raises(InputError, match=r"truncate .* is unknown"):
            asyncio.run(engine.aembed(["a file"], truncate=wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("gap", [" " * 9000, " " + "x" * 9000 + " "])
def test_a_text_of_few_tokens_is_read_whole_however_many_characters_it_has(engine: Engine, gap: str):
    """Nine thousand blanks are no token, and a word as long is one unknown one."""
    few = [f"open{gap}the file", f"open{gap}the door", "open the file"]
    result = asyncio.run(engine.arerank("sort the list", few, truncate="never"))
    scores = {passage.index: passage.score for passage in result.passages}
    assert not any(passage.truncated for passage in result.passages)
    assert scores[0] != scores[1]
    vectors = asyncio.run(engine.aembed(few, truncate="never")).vectors
    assert not np.allclose(vectors[0], vectors[1], atol=1e-4)
    if gap.isspace():
        assert scores[0] == pytest.approx(scores[2], abs=1e-5)
        np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-5)
    assert not engine.search(few[0]).truncated


def test_a_blank_text_comes_last_and_costs_the_others_nothing(engine: Engine):
    with_blanks = engine.rerank(QUESTIONS[0], ["", "sort a list", " \n", "a file"])
    without = engine.rerank(QUESTIONS[0], ["sort a list", "a file"])
    assert [hit.index for hit in with_blanks[2:]] == [0, 2]
    assert [hit.score for hit in with_blanks[2:]] == [BLANK, BLANK]
    assert [hit.text for hit in with_blanks[:2]] == [hit.text for hit in without]
    assert [hit.score for hit in with_blanks[:2]] == pytest.approx([hit.score for hit in without], abs=1e-5)
    assert [hit.index for hit in engine.rerank(QUESTIONS[0], ["", " "])] == [0, 1]
    vectors = engine.embed(["", "a file"])
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_embedding_gives_unit_vectors_and_a_passage_its_own(engine: Engine):
    read = zip(engine.collection.titles([0, 1, 2]), engine.collection.texts([0, 1, 2]), strict=True)
    texts = [f"{title} {text}" for title, text in read]
    vectors = engine.embed(texts, prompt_name="passage")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(vectors, engine.collection.index.vectors[:3], atol=1e-5)
    assert engine.embed([]).shape == (0, engine.encoder.dimension)
    with pytest.raises(InputError, match="no prompt of that name; known are query, passage, search_query"):
        engine.embed(["x"], "no such")


def test_results_are_json(engine: Engine):
    document = json.loads(json.dumps(engine.search("q", budget_ms=None).to_dict(), allow_nan=False))
    assert set(document["hits"][0]) >= {"id", "text", "title", "metadata", "score", "recall_score", "recall_rank"}


def test_a_closed_engine_refuses(collection: Path):
    engine = Engine.open(collection, device="cpu", warm_up=False)
    engine.close()
    with pytest.raises(EngineClosed):
        engine.search("q")


def test_a_weight_given_at_open_is_used(collection: Path):
    with Engine.open(collection, device="cpu", warm_up=False, recall_weight=1e6, lexical_weight=0.0) as engine:
        assert [hit.recall_rank for hit in engine.search("json", budget_ms=None).hits] == list(range(1, 11))


def test_without_a_reranker_search_says_that_it_is_recall_alone(tmp_path: Path, tiny_bi_encoder: Path):
    index_corpus("python:json", tmp_path / "c", encoder=tiny_bi_encoder)
    with Engine.open(tmp_path / "c", device="cpu", warm_up=False) as engine:
        assert engine.search("q").degraded == NO_RERANKER.text
        assert engine.search("q", rerank=False).degraded is None
        with pytest.raises(InputError, match="no reranker"):
            engine.rerank("q", ["x"])


def test_a_model_that_moved_is_named_and_found_again(
    tmp_path: Path, collection: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path
):
    moved = tmp_path / "deeper" / "moved"
    shutil.copytree(collection, moved)
    with pytest.raises(CollectionError, match="encoder=FOLDER"):
        Engine.open(moved, device="cpu")
    found = {"encoder": tiny_bi_encoder, "reranker": tiny_cross_encoder}
    with Engine.open(moved, device="cpu", warm_up=False, **found) as engine:
        assert engine.search("q").hits


def test_another_model_is_refused(collection: Path, tiny_cross_encoder: Path):
    with pytest.raises(Exception, match="cross-encoder, but a bi-encoder"):
        Engine.open(collection, encoder=tiny_cross_encoder, device="cpu")


def test_warming_up_learns_costs(collection: Path):
    with Engine.open(collection, device="cpu") as engine:
        assert engine.reranker.cost.seconds(4, 128) > engine.reranker.cost.seconds(1, 16) > 0
