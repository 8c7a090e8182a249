"""LangChain itself with the adapter: alone, in a chain, awaited, and what it is told where nothing answers."""

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
documents = need("langchain_core.documents")

from tandem.engine.adapters.langchain import LangChainEmbeddings, LangChainReranker, LangChainRetriever  # noqa: E402


def test_retriever(given: dict[str, Any], engine: Engine):
    hits = engine.search(QUERY, top_k=3, budget_ms=None, filters={"lang": "en"}).hits
    retriever = LangChainRetriever(**given, top_k=3, budget_ms=None, filters={"lang": "en"})
    for found in (retriever.invoke(QUERY), asyncio.run(retriever.ainvoke(QUERY))):
        assert [(each.id, each.page_content) for each in found] == [(hit.id, hit.text) for hit in hits]
        assert [each.metadata["score"] for each in found] == [hit.score for hit in hits]
        assert [each.metadata["relevance"] for each in found] == [hit.relevance for hit in hits]
        assert [each.metadata["document"] for each in found] == [hit.document for hit in hits]
        assert all(each.metadata["lang"] == "en" and each.metadata["title"] for each in found)


def test_the_documents_own_metadata_gives_way_under_another_name(engine: Engine):
    found = LangChainRetriever(engine, filters={"year": 2023}, budget_ms=None).invoke(QUERY)
    assert [(each.metadata["metadata.score"], type(each.metadata["score"])) for each in found] == [("own", float)]


def test_what_was_left_undone_is_in_the_metadata(given: dict[str, Any]):
    found = LangChainRetriever(**given, budget_ms=1e-6).invoke(QUERY)
    assert {each.metadata["degraded_code"] for each in found} <= {"fewer_candidates", "cut_short", "late"}
    assert all(each.metadata["degraded"] for each in found)
    assert {each.metadata["degraded"] for each in LangChainRetriever(**given, budget_ms=None).invoke(QUERY)} == {None}


def test_options_of_one_call(given: dict[str, Any]):
    retriever = LangChainRetriever(**given, top_k=3, budget_ms=None)
    assert len(retriever.invoke(QUERY, top_k=1)) == 1
    assert len(retriever.bind(top_k=2).invoke(QUERY)) == 2
    with pytest.raises(InputError, match="topk"):
        retriever.invoke(QUERY, topk=1)
    with pytest.raises(InputError, match="top_k"):
        LangChainRetriever(**given, top_k=0)


def test_a_chain(given: dict[str, Any]):
    from langchain_core.runnables import RunnableLambda, RunnablePassthrough

    retriever = LangChainRetriever(**given, top_k=2, budget_ms=None, tags=["notes"])
    chain = {"context": retriever, "question": RunnablePassthrough()} | RunnableLambda(lambda each: each)
    answers = chain.batch([QUERY, "rain"])
    assert [len(each["context"]) for each in answers] == [2, 2]
    assert asyncio.run(chain.ainvoke(QUERY)) == answers[0]


def test_a_retriever_may_be_copied_and_shows_no_key(given: dict[str, Any]):
    retriever = LangChainRetriever(**given, top_k=2, budget_ms=None)
    copied = type(retriever)(**retriever.__dict__)  # as LangChain's configurable fields do it
    assert copied.invoke(QUERY) == retriever.invoke(QUERY)
    assert "kkkk" not in repr(retriever)
    assert retriever.get_name() == "TandemRetriever"


def test_embeddings(given: dict[str, Any], engine: Engine):
    embeddings = LangChainEmbeddings(**given)
    for found in (embeddings.embed_documents(TEXTS), asyncio.run(embeddings.aembed_documents(TEXTS))):
        np.testing.assert_array_equal(np.float32(found), engine.embed(TEXTS, "passage"))
    for vector in (embeddings.embed_query(QUERY), asyncio.run(embeddings.aembed_query(QUERY))):
        np.testing.assert_array_equal(np.float32(vector), engine.embed([QUERY], "query")[0])
    prompted = LangChainEmbeddings(**given, prompt="about: ")
    np.testing.assert_array_equal(np.float32(prompted.embed_query(QUERY)), engine.embed([QUERY], prompt="about: ")[0])


def test_a_vector_store_takes_the_embeddings(given: dict[str, Any]):
    from langchain_core.vectorstores import InMemoryVectorStore

    store = InMemoryVectorStore(LangChainEmbeddings(**given))
    store.add_texts(TEXTS)
    assert len(store.similarity_search(QUERY, k=2)) == 2


def test_reranker(given: dict[str, Any], engine: Engine):
    ranked = engine.rerank(QUERY, TEXTS)
    given_documents = [documents.Document(page_content=text, metadata={"n": n}) for n, text in enumerate(TEXTS)]
    reranker = LangChainReranker(**given, top_n=3)
    for found in (
        reranker.compress_documents(given_documents, QUERY),
        asyncio.run(reranker.acompress_documents(given_documents, QUERY)),
    ):
        assert [each.metadata["n"] for each in found] == [passage.index for passage in ranked[:3]]
        assert [each.metadata["rerank_score"] for each in found] == [passage.score for passage in ranked[:3]]
        assert [each.metadata["relevance_score"] for each in found] == [logistic(each.score) for each in ranked[:3]]
    assert given_documents[0].metadata == {"n": 0}
    assert len(LangChainReranker(**given).compress_documents(given_documents, QUERY)) == 4
    assert reranker.compress_documents([], QUERY) == []


def test_a_compression_retriever(given: dict[str, Any]):
    retrievers = need("langchain_classic.retrievers")
    both = retrievers.ContextualCompressionRetriever(
        base_retriever=LangChainRetriever(**given, rerank=False, budget_ms=None),
        base_compressor=LangChainReranker(**given, top_n=2),
    )
    found = both.invoke(QUERY)
    assert [each.metadata["relevance_score"] for each in found] == sorted(
        (each.metadata["relevance_score"] for each in found), reverse=True
    )
    assert len(found) == 2


def test_what_does_not_answer_raises(engine: Engine):
    with Engine.open(engine.collection.path, device="cpu", warm_up=False) as opened:
        retriever = LangChainRetriever(opened)
    for ask in (retriever.invoke, lambda query: asyncio.run(retriever.ainvoke(query))):
        with pytest.raises(EngineClosed):
            ask(QUERY)
    for dead in (
        lambda: LangChainRetriever("http://127.0.0.1:9").invoke(QUERY),
        lambda: LangChainEmbeddings("http://127.0.0.1:9").embed_query(QUERY),
        lambda: LangChainReranker("http://127.0.0.1:9").compress_documents([documents.Document("a")], QUERY),
    ):
        with pytest.raises(EngineError, match="cannot be reached"):
            dead()
