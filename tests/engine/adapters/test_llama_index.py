"""LlamaIndex itself with the adapter."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from tandem.engine import Engine
from tandem.engine.errors import EngineClosed, EngineError, InputError
from tandem.engine.scoring.scale import logistic

from .conftest import QUERY, TEXTS, need

pytestmark = [pytest.mark.clients, pytest.mark.usefixtures("_their_warnings")]
schema = need("llama_index.core.schema")

from tandem.engine.adapters.llama_index import (  # noqa: E402
    LlamaIndexEmbedding,
    LlamaIndexReranker,
    LlamaIndexRetriever,
)


def test_retriever(given: dict[str, Any], engine: Engine):
    result = engine.search(QUERY, top_k=3, budget_ms=None)
    retriever = LlamaIndexRetriever(**given, top_k=3, budget_ms=None)
    for found in (retriever.retrieve(QUERY), asyncio.run(retriever.aretrieve(QUERY))):
        assert [(each.node_id, each.text, each.score) for each in found] == [
            (hit.id, hit.text, hit.score) for hit in result.hits
        ]
        assert [each.metadata["relevance"] for each in found] == [hit.relevance for hit in result.hits]
        assert [each.node.ref_doc_id for each in found] == [hit.document for hit in result.hits]
        assert {each.metadata["degraded"] for each in found} == {None}
    shown = found[0].node.get_content(metadata_mode=schema.MetadataMode.LLM)
    assert "title: " in shown
    assert "lang: " in shown
    assert "score" not in shown


def test_a_wrong_option_is_told(given: dict[str, Any]):
    with pytest.raises(InputError, match="topk"):
        LlamaIndexRetriever(**given, topk=3)


@pytest.fixture
def nodes() -> list[Any]:
    return [
        schema.NodeWithScore(node=schema.TextNode(text=text, id_=str(n)), score=0.5) for n, text in enumerate(TEXTS)
    ]


def test_reranker(given: dict[str, Any], engine: Engine, nodes: list[Any]):
    wanted = [(str(each.index), logistic(each.score)) for each in engine.rerank(QUERY, TEXTS)[:2]]
    reranker = LlamaIndexReranker(**given, top_n=2)
    for found in (
        reranker.postprocess_nodes(nodes, query_str=QUERY),
        asyncio.run(reranker.apostprocess_nodes(nodes, query_str=QUERY)),
    ):
        assert [(each.node_id, each.score) for each in found] == wanted
    assert [each.score for each in nodes] == [0.5] * 4
    assert len(LlamaIndexReranker(**given).postprocess_nodes(nodes, query_str=QUERY)) == 4
    assert reranker.postprocess_nodes([], query_str=QUERY) == []
    with pytest.raises(InputError, match="needs the query"):
        reranker.postprocess_nodes(nodes)


def test_reranker_reads_metadata_where_that_is_wanted(engine: Engine):
    node = schema.NodeWithScore(node=schema.TextNode(text="It rains.", metadata={"place": "here"}))
    reranker = LlamaIndexReranker(engine, metadata_mode=schema.MetadataMode.EMBED)
    wanted = engine.rerank(QUERY, ["place: here\n\nIt rains."])[0].score
    assert reranker.postprocess_nodes([node], query_str=QUERY)[0].score == logistic(wanted)


def test_embedding(given: dict[str, Any], engine: Engine):
    embedding = LlamaIndexEmbedding(**given, embed_batch_size=3)
    passages, query = engine.embed(TEXTS, "passage"), engine.embed([QUERY], "query")[0]
    for vectors in (
        embedding.get_text_embedding_batch(TEXTS),
        asyncio.run(embedding.aget_text_embedding_batch(TEXTS)),
        [embedding.get_text_embedding(text) for text in TEXTS],
        [asyncio.run(embedding.aget_text_embedding(text)) for text in TEXTS],
    ):
        np.testing.assert_array_equal(np.float32(vectors), passages)
    for vector in (embedding.get_query_embedding(QUERY), asyncio.run(embedding.aget_query_embedding(QUERY))):
        np.testing.assert_array_equal(np.float32(vector), query)
    assert "kkkk" not in str(embedding.to_dict())


def test_a_query_engine_with_all_three(given: dict[str, Any]):
    core = need("llama_index.core")
    from llama_index.core.query_engine import RetrieverQueryEngine

    engine = RetrieverQueryEngine.from_args(
        LlamaIndexRetriever(**given, rerank=False, budget_ms=None),
        llm=core.llms.MockLLM(),
        node_postprocessors=[LlamaIndexReranker(**given, top_n=2)],
    )
    answer = engine.query(QUERY)
    assert len(answer.source_nodes) == 2
    assert answer.source_nodes[0].score >= answer.source_nodes[1].score
    index = core.VectorStoreIndex.from_documents(
        [core.Document(text=text) for text in TEXTS if text.strip()], embed_model=LlamaIndexEmbedding(**given)
    )
    assert len(index.as_retriever(similarity_top_k=2).retrieve(QUERY)) == 2


def test_what_does_not_answer_raises(engine: Engine, nodes: list[Any]):
    with Engine.open(engine.collection.path, device="cpu", warm_up=False) as opened:
        retriever = LlamaIndexRetriever(opened)
    for ask in (retriever.retrieve, lambda query: asyncio.run(retriever.aretrieve(query))):
        with pytest.raises(EngineClosed):
            ask(QUERY)
    for dead in (
        lambda: LlamaIndexRetriever("http://127.0.0.1:9").retrieve(QUERY),
        lambda: LlamaIndexEmbedding("http://127.0.0.1:9").get_query_embedding(QUERY),
        lambda: LlamaIndexReranker("http://127.0.0.1:9").postprocess_nodes(nodes, query_str=QUERY),
    ):
        with pytest.raises(EngineError, match="cannot be reached"):
            dead()
