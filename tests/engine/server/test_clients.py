"""The clients themselves, unchanged, against the server; one that is not installed skips."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tandem.engine import Engine

from .conftest import KEY, Running

QUERY = "read a json document"
TEXTS = [f"passage {place} about {'json' if place % 3 else 'threads and locks'}" for place in range(100)]


@pytest.fixture(autouse=True)
def _their_warnings_are_theirs() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        gc.collect()  # connections they leave open, or a later test hears of them


@pytest.fixture(scope="module")
def best(engine: Engine) -> list[int]:
    """Places of the texts, best first, by the cross-encoder alone."""
    return [passage.index for passage in engine.rerank(QUERY, TEXTS)]


def need(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"the client {name} is not installed", exc_type=ImportError)


def test_openai(server: Running, engine: Engine):
    openai = need("openai")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)
    answer = client.embeddings.create(model="any", input=TEXTS[:3])
    np.testing.assert_allclose([entry.embedding for entry in answer.data], engine.embed(TEXTS[:3]), atol=1e-6)
    assert len(client.embeddings.create(model="any", input="x", dimensions=8).data[0].embedding) == 8
    floats = client.embeddings.create(model="any", input=TEXTS[0], encoding_format="float").data[0].embedding
    np.testing.assert_allclose(floats, answer.data[0].embedding, atol=1e-7)
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length"):
        client.embeddings.create(model="any", input=[1, 2, 3])
    with pytest.raises(openai.UnprocessableEntityError):
        client.embeddings.create(model="any", input=["x"] * 3000)
    with pytest.raises(openai.AuthenticationError, match="key"):
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0).embeddings.create(
            model="m", input="x"
        )
    assert {model.id for model in client.models.list()} >= {answer.model}


def test_openai_tells_a_server_that_is_not_ready(start: Callable[..., Running]):
    openai = need("openai")
    client = openai.OpenAI(base_url=f"{start(loaded=False).url}/v1", api_key=KEY, max_retries=0)
    with pytest.raises(openai.InternalServerError, match="loaded") as caught:
        client.embeddings.create(model="any", input="x")
    assert caught.value.status_code == 503


def test_cohere(server: Running, best: list[int]):
    cohere = need("cohere")
    client = cohere.ClientV2(api_key=KEY, base_url=server.url)
    answer = client.rerank(model="any", query=QUERY, documents=TEXTS)
    assert [entry.index for entry in answer.results] == best
    assert all(0 <= entry.relevance_score <= 1 for entry in answer.results)
    assert len(client.rerank(model="any", query=QUERY, documents=TEXTS, top_n=3, max_tokens_per_doc=64).results) == 3
    with pytest.raises(cohere.errors.UnprocessableEntityError):
        client.rerank(model="any", query=QUERY, documents=[])
    with pytest.raises(cohere.errors.UnauthorizedError):
        cohere.ClientV2(api_key="wrong", base_url=server.url).rerank(model="any", query=QUERY, documents=["x"])
    first = cohere.Client(api_key=KEY, base_url=server.url).rerank(
        model="any", query=QUERY, documents=TEXTS, return_documents=True
    )
    assert [entry.index for entry in first.results] == best
    assert first.results[0].document.text == TEXTS[best[0]]


def test_langchain_openai(server: Running, engine: Engine):
    embeddings = need("langchain_openai").OpenAIEmbeddings(
        model="any", base_url=f"{server.url}/v1", api_key=KEY, check_embedding_ctx_length=False
    )
    np.testing.assert_allclose(embeddings.embed_documents(TEXTS[:3]), engine.embed(TEXTS[:3]), atol=1e-6)


def test_langchain_cohere(server: Running, best: list[int]):
    cohere = need("cohere")
    reranker = need("langchain_cohere").CohereRerank(
        client=cohere.ClientV2(api_key=KEY, base_url=server.url), model="any", top_n=5
    )
    assert [entry["index"] for entry in reranker.rerank(TEXTS, QUERY)] == best[:5]


def test_langchain_jina(server: Running, best: list[int], monkeypatch: pytest.MonkeyPatch):
    jina = need("langchain_community.document_compressors.jina_rerank")
    monkeypatch.setattr(jina, "JINA_API_URL", f"{server.url}/v1/rerank")
    reranker = jina.JinaRerank(jina_api_key=KEY, model="any", top_n=4)
    assert [entry["index"] for entry in reranker.rerank(TEXTS, QUERY)] == best[:4]


def test_llama_index_tei(server: Running, best: list[int]):
    tei = need("llama_index.postprocessor.tei_rerank")
    schema = need("llama_index.core.schema")
    nodes = [
        schema.NodeWithScore(node=schema.TextNode(text=text, id_=str(i)), score=0.0) for i, text in enumerate(TEXTS)
    ]
    reranker = tei.TextEmbeddingInference(base_url=server.url, auth_token=f"Bearer {KEY}", top_n=6)
    ranked = reranker.postprocess_nodes(nodes, query_str=QUERY)
    assert len(ranked) == 6
    assert [int(node.node.node_id) for node in ranked] == best[:6]


@pytest.mark.parametrize(
    ("provider", "path"), [("text-embeddings-inference", "/rerank"), ("cohere", "/v2/rerank"), ("jina", "/v1/rerank")]
)
def test_rerankers(server: Running, best: list[int], provider: str, path: str):
    api = need("rerankers.models.api_rankers")
    ranker = api.APIRanker(model="any", api_key=KEY, api_provider=provider, url=server.url + path)
    ranked = ranker.rank(query=QUERY, docs=TEXTS, doc_ids=list(range(100)))
    assert [result.doc_id for result in ranked.results] == best
