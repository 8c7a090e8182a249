"""Haystack itself with the adapter: components alone, pipelines that run, are saved and are loaded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tandem.engine import Engine
from tandem.engine.adapters.haystack_filters import translated
from tandem.engine.errors import EngineClosed, EngineError, InputError
from tandem.engine.scoring.scale import logistic

from ..server.conftest import KEY, Running
from .conftest import QUERY, TEXTS, need

pytestmark = [pytest.mark.clients, pytest.mark.usefixtures("_their_warnings")]
haystack = need("haystack")

from tandem.engine.adapters.haystack import (  # noqa: E402
    HaystackDocumentEmbedder,
    HaystackRanker,
    HaystackRetriever,
    HaystackTextEmbedder,
)


def documents() -> list[Any]:
    return [haystack.Document(id=str(n), content=text, meta={"n": n}) for n, text in enumerate(TEXTS)]


def test_retriever(given: dict[str, Any], engine: Engine):
    result = engine.search(QUERY, top_k=3, budget_ms=None)
    retriever = HaystackRetriever(**given, top_k=3, budget_ms=None)
    for found in (retriever.run(query=QUERY), asyncio.run(retriever.run_async(query=QUERY))):
        assert [(each.id, each.content, each.score) for each in found["documents"]] == [
            (hit.id, hit.text, hit.score) for hit in result.hits
        ]
        assert [each.meta["relevance"] for each in found["documents"]] == [hit.relevance for hit in result.hits]
        assert [each.meta["document"] for each in found["documents"]] == [hit.document for hit in result.hits]
        assert found["meta"]["degraded"] is None
        assert found["meta"]["reranked"] == result.reranked
        flat = found["documents"][0].to_dict(flatten=True)
        assert haystack.Document.from_dict(flat) == found["documents"][0]


def test_what_was_left_undone_is_told(given: dict[str, Any]):
    found = HaystackRetriever(**given, budget_ms=1e-6).run(query=QUERY)
    assert found["meta"]["degraded_code"] in ("fewer_candidates", "cut_short", "late")
    assert {each.meta["degraded"] for each in found["documents"]} == {found["meta"]["degraded"]}


def test_every_option_is_an_input(given: dict[str, Any], engine: Engine):
    pipeline = haystack.Pipeline()
    pipeline.add_component("search", HaystackRetriever(**given, top_k=3, budget_ms=None))
    found = pipeline.run({"search": {"query": QUERY}})["search"]["documents"]
    assert len(found) == 3
    found = pipeline.run({"search": {"query": QUERY, "top_k": 1, "filters": {"lang": "de"}}})["search"]["documents"]
    assert [each.meta["document"] for each in found] == ["wetter"]
    with pytest.raises(InputError, match="topk"):
        HaystackRetriever(**given).run(query=QUERY, topk=1)
    with pytest.raises(InputError, match="topk"):
        HaystackRetriever(**given, topk=1)


def test_filters_of_haystack(given: dict[str, Any]):
    filters = {
        "operator": "AND",
        "conditions": [
            {"field": "meta.lang", "operator": "in", "value": ["en"]},
            {"operator": "NOT", "conditions": [{"field": "meta.year", "operator": "<", "value": 2022}]},
            {"field": "year", "operator": ">", "value": 2000},
        ],
    }
    retriever = HaystackRetriever(**given, budget_ms=None, filters=filters)
    assert {each.meta["document"] for each in retriever.run(query=QUERY)["documents"]} == {"keys"}
    one = {"field": "meta.year", "operator": "==", "value": 2021}
    assert {each.meta["document"] for each in retriever.run(query=QUERY, filters=one)["documents"]} == {"backups"}


def test_filters_are_translated():
    assert translated({"year": {"$gte": 2020}}) == {"year": {"$gte": 2020}}
    assert translated({"operator": "plain"}) == {"operator": "plain"}  # a field of ours may be called so
    condition = {"field": "meta.a.b", "operator": "not in", "value": [1]}
    assert translated({"operator": "OR", "conditions": [condition]}) == {"$or": [{"a.b": {"$nin": [1]}}]}
    with pytest.raises(InputError, match="operator 'like' is none of =="):
        translated({"field": "a", "operator": "like", "value": 1})
    with pytest.raises(InputError, match="needs its field"):
        translated({"operator": "==", "value": 1})


def test_ranker(given: dict[str, Any], engine: Engine):
    ranked = engine.rerank(QUERY, TEXTS)
    ranker = HaystackRanker(**given, top_k=3)
    asked = documents()
    for found in (
        ranker.run(query=QUERY, documents=asked),
        asyncio.run(ranker.run_async(query=QUERY, documents=asked)),
    ):
        assert [(each.meta["n"], each.score, each.meta["rerank_score"]) for each in found["documents"]] == [
            (each.index, logistic(each.score), each.score) for each in ranked[:3]
        ]
    assert asked == documents()
    assert len(ranker.run(query=QUERY, documents=asked, top_k=1)["documents"]) == 1
    assert ranker.run(query=QUERY, documents=[])["documents"] == []
    with pytest.raises(InputError, match="top_k is 0"):
        HaystackRanker(**given, top_k=0)


def test_fields_are_read_before_the_content(engine: Engine):
    document = haystack.Document(content="It rains.", meta={"title": "Weather", "nothing": None})
    fields = ["title", "nothing", "absent"]
    ranker = HaystackRanker(engine, meta_fields_to_embed=fields)
    wanted = engine.rerank(QUERY, ["Weather\nIt rains."])[0].score
    assert ranker.run(query=QUERY, documents=[document])["documents"][0].meta["rerank_score"] == wanted
    embedded = HaystackDocumentEmbedder(engine, meta_fields_to_embed=fields).run(documents=[document])["documents"]
    np.testing.assert_array_equal(np.float32(embedded[0].embedding), engine.embed(["Weather\nIt rains."], "passage")[0])


def test_embedders(given: dict[str, Any], engine: Engine):
    text, many = HaystackTextEmbedder(**given), HaystackDocumentEmbedder(**given)
    query, passages = engine.embed([QUERY], "query")[0], engine.embed(TEXTS, "passage")
    for found in (text.run(text=QUERY), asyncio.run(text.run_async(text=QUERY))):
        np.testing.assert_array_equal(np.float32(found["embedding"]), query)
    asked = documents()
    for found in (many.run(documents=asked), asyncio.run(many.run_async(documents=asked))):
        np.testing.assert_array_equal(np.float32([each.embedding for each in found["documents"]]), passages)
        assert [each.id for each in found["documents"]] == [each.id for each in asked]
    assert asked == documents()
    assert many.run(documents=[]) == {"documents": []}


def pipeline_of(source: str, **more: Any) -> Any:
    pipeline = haystack.Pipeline()
    pipeline.add_component("search", HaystackRetriever(source, **more, top_k=4, rerank=False, filters={"lang": "en"}))
    pipeline.add_component("rank", HaystackRanker(source, **more, top_k=2))
    pipeline.add_component("embed", HaystackDocumentEmbedder(source, **more))
    pipeline.connect("search.documents", "rank.documents")
    pipeline.connect("rank.documents", "embed.documents")
    return pipeline


@pytest.mark.parametrize("kind", ["url", "folder"])
def test_a_pipeline_is_saved_and_loaded(kind: str, server: Running, engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TANDEM_TEST_KEY", KEY)
    key = haystack.utils.Secret.from_env_var("TANDEM_TEST_KEY")
    made = pipeline_of(server.url, api_key=key) if kind == "url" else pipeline_of(str(engine.collection.path))
    saved = made.dumps()
    assert KEY not in saved
    loaded = haystack.Pipeline.loads(saved, allowed_modules=[HaystackRetriever.__module__])
    assert loaded.to_dict()["components"] == made.to_dict()["components"]
    asked = {"search": {"query": QUERY}, "rank": {"query": QUERY}}
    found = loaded.run(asked)["embed"]["documents"]
    assert found == made.run(asked)["embed"]["documents"]
    assert len(found) == 2
    assert len(found[0].embedding) == engine.encoder.dimension
    assert found[0].score >= found[1].score
    again = asyncio.run(loaded.run_async(asked))
    assert again["embed"]["documents"] == found


def test_text_embedder_is_saved():
    made = HaystackTextEmbedder("http://host", collection="notes", prompt="about: ").to_dict()
    assert HaystackTextEmbedder.from_dict(made).to_dict() == made
    assert made["init_parameters"]["prompt"] == "about: "
    assert made["type"] == "tandem.engine.adapters.haystack.HaystackTextEmbedder"


def test_what_cannot_be_saved_is_told(engine: Engine):
    with pytest.raises(InputError, match="an open engine cannot be saved"):
        HaystackRetriever(engine).to_dict()
    with pytest.raises(InputError, match=r"give Secret\.from_env_var"):
        HaystackRetriever("http://host", api_key=KEY).to_dict()


def test_a_folder_is_opened_by_what_is_awaited(engine: Engine):
    found = asyncio.run(HaystackRetriever(engine.collection.path, top_k=2).run_async(query=QUERY))
    assert len(found["documents"]) == 2


def test_a_folder_is_opened_when_the_pipeline_warms_up(tmp_path: Path):
    component = HaystackRetriever(str(tmp_path / "absent"))  # may be loaded where the collection is not yet
    with pytest.raises(Exception, match="absent"):
        component.warm_up()


def test_what_does_not_answer_raises(engine: Engine):
    with Engine.open(engine.collection.path, device="cpu", warm_up=False) as opened:
        retriever = HaystackRetriever(opened)
    with pytest.raises(EngineClosed):
        retriever.run(query=QUERY)
    for dead in (
        lambda: HaystackRetriever("http://127.0.0.1:9").run(query=QUERY),
        lambda: HaystackTextEmbedder("http://127.0.0.1:9").run(text=QUERY),
        lambda: HaystackRanker("http://127.0.0.1:9").run(query=QUERY, documents=documents()),
        lambda: HaystackDocumentEmbedder("http://127.0.0.1:9").run(documents=documents()),
    ):
        with pytest.raises(EngineError, match="cannot be reached"):
            dead()
