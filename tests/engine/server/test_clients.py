"""The clients themselves, unchanged, against the server; one that is not installed skips (`make clients` has all)."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from tandem.engine import Engine

from .conftest import KEY, Running

pytestmark = pytest.mark.clients
QUERY = "read a json document"
TEXTS = [f"passage {place} about {'json' if place % 3 else 'threads and locks'}" for place in range(100)]
Ranked = list[tuple[int, str | None]]
"""What a client shows of a rerank: each result's index and, where it has one, its text."""
Call = Callable[[str], Any]
"""What a client does at a URL."""


@pytest.fixture(autouse=True)
def _their_warnings_are_theirs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("LITELLM_LOCAL_MODEL_COST_MAP", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "True")
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        gc.collect()  # connections they leave open, or a later test hears of them


@pytest.fixture(scope="module")
def best(engine: Engine) -> list[int]:
    """Places of the texts, best first, by the cross-encoder alone."""
    return [passage.index for passage in engine.rerank(QUERY, TEXTS)]


def need(name: str) -> ModuleType:
    """A client's module; its test skips where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed: see make clients", exc_type=ImportError)


def cohere(url: str) -> Ranked:
    answer = need("cohere").ClientV2(api_key=KEY, base_url=url).rerank(model="any", query=QUERY, documents=TEXTS)
    assert all(0 <= result.relevance_score <= 1 for result in answer.results)
    return [(result.index, None) for result in answer.results]


def cohere_of_the_first_version(url: str) -> Ranked:
    client = need("cohere").Client(api_key=KEY, base_url=url)
    answer = client.rerank(model="any", query=QUERY, documents=TEXTS, top_n=9, return_documents=True)
    return [(result.index, result.document.text) for result in answer.results]


def langchain_cohere(url: str) -> Ranked:
    client = need("cohere").ClientV2(api_key=KEY, base_url=url)
    reranker = need("langchain_cohere").CohereRerank(client=client, model="any", top_n=5)
    return [(result["index"], None) for result in reranker.rerank(TEXTS, QUERY)]


def langchain_jina(url: str) -> Ranked:
    jina = need("langchain_community.document_compressors.jina_rerank")
    with patch.object(jina, "JINA_API_URL", f"{url}/v1/rerank"):
        reranker = jina.JinaRerank(jina_api_key=KEY, model="any", top_n=4)
        return [(result["index"], None) for result in reranker.rerank(TEXTS, QUERY)]


def langchain_infinity(url: str) -> Ranked:
    infinity = need("langchain_community.document_compressors.infinity_rerank")
    client = need("infinity_client").Client(base_url=url, headers={"authorization": f"Bearer {KEY}"})
    reranker = infinity.InfinityRerank(client=client, model="any", top_n=4)
    return [(result["index"], None) for result in reranker.rerank(TEXTS, QUERY, top_n=4)]


def llama_index_tei(url: str) -> Ranked:
    schema = need("llama_index.core.schema")
    nodes = [
        schema.NodeWithScore(node=schema.TextNode(text=text, id_=str(i)), score=0.0) for i, text in enumerate(TEXTS)
    ]
    tei = need("llama_index.postprocessor.tei_rerank")
    reranker = tei.TextEmbeddingInference(base_url=url, auth_token=f"Bearer {KEY}", top_n=6)
    ranked = reranker.postprocess_nodes(nodes, query_str=QUERY)
    return [(int(node.node.node_id), node.node.text) for node in ranked]


def haystack_tei(url: str) -> Ranked:
    module = need("haystack_integrations.components.rankers.huggingface_api")
    ranker = module.HuggingFaceTEIRanker(url=url, token=haystack_key(), top_k=7)
    documents = [need("haystack").Document(id=str(place), content=text) for place, text in enumerate(TEXTS)]
    return [(int(each.id), each.content) for each in ranker.run(query=QUERY, documents=documents)["documents"]]


def rerankers(provider: str, path: str) -> Callable[[str], Ranked]:
    def rank(url: str) -> Ranked:
        api = need("rerankers.models.api_rankers")
        ranker = api.APIRanker(model="any", api_key=KEY, api_provider=provider, url=url + path)
        ranked = ranker.rank(query=QUERY, docs=TEXTS, doc_ids=list(range(100)))
        return [(result.doc_id, result.text) for result in ranked.results]

    return rank


def infinity_client(base: str, *, returned: bool) -> Callable[[str], Ranked]:
    def rank(url: str) -> Ranked:
        client = need("infinity_client").AuthenticatedClient(base_url=url + base, token=KEY)
        body = need("infinity_client.models").RerankInput(
            query=QUERY, documents=TEXTS, top_n=5, return_documents=returned
        )
        answer = need("infinity_client.api.default.rerank").sync(client=client, body=body)
        return [(result.index, result.document if returned else None) for result in answer.results]

    return rank


def litellm(model: str, base: str = "", **more: Any) -> Callable[[str], Ranked]:
    def rank(url: str) -> Ranked:
        answer = need("litellm").rerank(
            model=model, api_base=url + base, api_key=KEY, query=QUERY, documents=TEXTS, top_n=5, **more
        )
        return [(result["index"], result.get("document", {}).get("text")) for result in answer.results]

    return rank


def milvus_jina(url: str) -> Ranked:
    jina = need("pymilvus.model.reranker.jinaai")
    with patch.object(jina, "API_URL", f"{url}/v1/rerank"):
        return [(result.index, result.text) for result in jina.JinaRerankFunction("any", KEY)(QUERY, TEXTS, top_k=5)]


def milvus_cohere(url: str) -> Ranked:
    function = need("pymilvus.model.reranker.cohere").CohereRerankFunction("any", KEY)
    function.client = need("cohere").ClientV2(api_key=KEY, base_url=url)  # else read from CO_API_URL at import
    try:
        return [(result.index, result.text) for result in function(QUERY, TEXTS, top_k=5)]
    except TypeError as error:
        pytest.skip(f"pymilvus-model and this version of cohere do not fit together: {error}")


def milvus_tei(url: str) -> Ranked:
    function = need("pymilvus.model.reranker.tei").TEIRerankFunction(url)
    function._session.headers["authorization"] = f"Bearer {KEY}"  # it has no argument for a key
    return [(result.index, result.text) for result in function(QUERY, TEXTS)]


# name: the call, how many results it asks for, whether it shows the texts
RERANKS: dict[str, tuple[Callable[[str], Ranked], int, bool]] = {
    "cohere v2": (cohere, 100, False),
    "cohere v1": (cohere_of_the_first_version, 9, True),
    "langchain CohereRerank": (langchain_cohere, 5, False),
    "langchain JinaRerank": (langchain_jina, 4, False),
    "langchain InfinityRerank": (langchain_infinity, 4, False),
    "llama-index TEI": (llama_index_tei, 6, True),
    "haystack TEI ranker": (haystack_tei, 7, True),
    "rerankers TEI": (rerankers("text-embeddings-inference", "/rerank"), 100, True),
    "rerankers cohere": (rerankers("cohere", "/v2/rerank"), 100, True),
    "rerankers jina": (rerankers("jina", "/v1/rerank"), 100, True),
    "infinity_client": (infinity_client("", returned=False), 5, False),
    "infinity_client with texts": (infinity_client("", returned=True), 5, True),
    "infinity_client at /infinity": (infinity_client("/infinity", returned=True), 5, True),
    "litellm infinity": (litellm("infinity/any", "/infinity"), 5, True),
    "litellm jina_ai": (litellm("jina_ai/any"), 5, True),
    "litellm cohere": (litellm("cohere/any"), 5, True),
    "litellm huggingface": (litellm("huggingface/any"), 100, True),
    "litellm hosted_vllm": (litellm("hosted_vllm/any"), 5, True),
    "litellm hosted_vllm, /v1/rerank": (litellm("hosted_vllm/any", "/v1/rerank"), 5, True),
    "litellm nvidia_nim": (litellm("nvidia_nim/nvidia/any"), 5, True),
    "litellm nvidia_nim ranking": (litellm("nvidia_nim/ranking/nvidia/any"), 5, True),
    "pymilvus jina": (milvus_jina, 5, True),
    "pymilvus cohere": (milvus_cohere, 5, True),
    "pymilvus TEI": (milvus_tei, 5, True),
}


@pytest.mark.parametrize("client", RERANKS)
def test_rerank(server: Running, best: list[int], client: str):
    call, count, with_texts = RERANKS[client]
    assert call(server.url) == [(place, TEXTS[place] if with_texts else None) for place in best[:count]]


def openai(base: str, **more: Any) -> Call:
    def embed(url: str) -> Any:
        client = need("openai").OpenAI(base_url=url + base, api_key=KEY, max_retries=0)
        return [each.embedding for each in client.embeddings.create(model="any", input=TEXTS[:3], **more).data]

    return embed


def cohere_embed(version: str, **more: Any) -> Call:
    def embed(url: str) -> Any:
        client = getattr(need("cohere"), version)(api_key=KEY, base_url=url)
        told = client.embed(model="any", texts=TEXTS[:3], input_type="search_document", **more).embeddings
        return getattr(told, "float_", told)

    return embed


def langchain_openai(url: str) -> Any:
    return (
        need("langchain_openai")
        .OpenAIEmbeddings(model="any", base_url=f"{url}/v1", api_key=KEY, check_embedding_ctx_length=False)
        .embed_documents(TEXTS[:3])
    )


def langchain_embeddings_cohere(url: str) -> Any:
    embeddings = need("langchain_cohere").CohereEmbeddings(cohere_api_key=KEY, base_url=url, model="any")
    return embeddings.embed_documents(TEXTS[:3])


def langchain_embeddings_jina(url: str) -> Any:
    jina = need("langchain_community.embeddings.jina")
    with patch.object(jina, "JINA_API_URL", f"{url}/v1/embeddings"):
        return jina.JinaEmbeddings(jina_api_key=KEY, model_name="any").embed_documents(TEXTS[:3])


def langchain_hugging_face(url: str) -> Any:
    hub = need("huggingface_hub")
    embeddings = need("langchain_huggingface").HuggingFaceEndpointEmbeddings(model="any/model")
    embeddings.client = hub.InferenceClient(base_url=url, api_key=KEY)  # it takes no URL itself
    return embeddings.embed_documents(TEXTS[:3])


def hugging_face(url: str) -> Any:
    client = need("huggingface_hub").InferenceClient(base_url=url, api_key=KEY)
    return client.feature_extraction(TEXTS[:3], normalize=True, truncate=True, truncation_direction="Right")


def haystack_key() -> Any:
    return need("haystack.utils").Secret.from_token(KEY)


def haystack_documents(url: str) -> Any:
    document, module = need("haystack").Document, need("haystack_integrations.components.embedders.huggingface_api")
    embedder = module.HuggingFaceAPIDocumentEmbedder(
        api_type="text_embeddings_inference",
        api_params={"url": url},
        token=haystack_key(),
    )
    embedded = embedder.run(documents=[document(content=text) for text in TEXTS[:3]])
    return [each.embedding for each in embedded["documents"]]


def haystack_texts(url: str) -> Any:
    embedder = need("haystack_integrations.components.embedders.huggingface_api").HuggingFaceAPITextEmbedder(
        api_type="text_embeddings_inference",
        api_params={"url": url},
        token=haystack_key(),
    )
    return [embedder.run(text=text)["embedding"] for text in TEXTS[:3]]


def llama_index_embeddings(url: str) -> Any:
    module = need("llama_index.embeddings.text_embeddings_inference")
    embedding = module.TextEmbeddingsInference(model_name="any", base_url=url, auth_token=KEY)
    return embedding.get_text_embedding_batch(TEXTS[:3])


def infinity_embeddings(url: str) -> Any:
    client = need("infinity_client").AuthenticatedClient(base_url=url, token=KEY)
    body = need("infinity_client.models").OpenAIEmbeddingInputText(input_=TEXTS[:3])
    assert body.to_dict()["dimensions"] == 0
    return [
        each.embedding for each in need("infinity_client.api.default.embeddings").sync(client=client, body=body).data
    ]


def litellm_embeddings(model: str, path: str, **more: Any) -> Call:
    def embed(url: str) -> Any:
        answer = need("litellm").embedding(model=model, api_base=url + path, api_key=KEY, input=TEXTS[:3], **more)
        return [each["embedding"] for each in answer.data]

    return embed


def milvus_jina_embeddings(url: str) -> Any:
    jina = need("pymilvus.model.dense.jinaai")
    with patch.object(jina, "API_URL", f"{url}/v1/embeddings"):
        return jina.JinaEmbeddingFunction("any", KEY).encode_documents(TEXTS[:3])


EMBEDDINGS: dict[str, Call] = {
    "openai": openai("/v1"),
    "openai without /v1": openai(""),
    "openai, floats": openai("/v1", encoding_format="float"),
    "cohere v2": cohere_embed("ClientV2", embedding_types=["float"]),
    "cohere v1": cohere_embed("Client"),
    "langchain OpenAIEmbeddings": langchain_openai,
    "langchain CohereEmbeddings": langchain_embeddings_cohere,
    "langchain JinaEmbeddings": langchain_embeddings_jina,
    "langchain HuggingFaceEndpointEmbeddings": langchain_hugging_face,
    "huggingface_hub": hugging_face,
    "haystack document embedder": haystack_documents,
    "haystack text embedder": haystack_texts,
    "llama-index TEI": llama_index_embeddings,
    "infinity_client": infinity_embeddings,
    "litellm infinity": litellm_embeddings("infinity/any", ""),
    "litellm jina_ai": litellm_embeddings("jina_ai/any", "/v1"),
    "litellm cohere": litellm_embeddings("cohere/any", "/v2/embed"),
    "litellm huggingface": litellm_embeddings("huggingface/any", "", input_type="embed"),
    "litellm hosted_vllm": litellm_embeddings("hosted_vllm/any", "/v1"),
    "litellm nvidia_nim": litellm_embeddings("nvidia_nim/any", "/v1", input_type="passage"),
    "pymilvus jina": milvus_jina_embeddings,
}


@pytest.mark.parametrize("client", EMBEDDINGS)
def test_embed(server: Running, engine: Engine, client: str):
    np.testing.assert_allclose(EMBEDDINGS[client](server.url), engine.embed(TEXTS[:3]), atol=1e-6)


def test_huggingface_hub_compares_sentences(server: Running, engine: Engine):
    client = need("huggingface_hub").InferenceClient(base_url=server.url, api_key=KEY)
    vectors = engine.embed([QUERY, *TEXTS[:3]])
    cosines = client.sentence_similarity(QUERY, other_sentences=TEXTS[:3])
    np.testing.assert_allclose(cosines, vectors[1:] @ vectors[0], atol=1e-5)


@pytest.mark.parametrize("base", ["/v1", ""])
def test_openai_names_its_models(server: Running, base: str):
    openai = need("openai")
    client = openai.OpenAI(base_url=server.url + base, api_key=KEY, max_retries=0)
    listed = list(client.models.list())
    assert len(listed) == 2
    assert {client.models.retrieve(model.id).id for model in listed} == {model.id for model in listed}
    with pytest.raises(openai.NotFoundError, match=listed[0].id):
        client.models.retrieve("gpt/none")


def test_infinity_client_asks_for_models_and_health(server: Running):
    client = need("infinity_client").AuthenticatedClient(base_url=server.url, token=KEY)
    models = need("infinity_client.api.default.models").sync(client=client)
    assert [model.capabilities for model in models.data] == [["embed"], ["rerank"]]
    assert need("infinity_client.api.default.health").sync(client=client) is not None


def test_openai_is_told_what_is_wrong(server: Running):
    openai = need("openai")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)
    assert len(client.embeddings.create(model="any", input="x", dimensions=8).data[0].embedding) == 8
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length"):
        client.embeddings.create(model="any", input=[1, 2, 3])
    with pytest.raises(openai.UnprocessableEntityError):
        client.embeddings.create(model="any", input=["x"] * 3000)
    with pytest.raises(openai.AuthenticationError, match="key"):
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0).models.list()


def test_openai_is_told_of_a_server_that_is_not_ready(start: Callable[..., Running]):
    openai = need("openai")
    client = openai.OpenAI(base_url=f"{start(loaded=False).url}/v1", api_key=KEY, max_retries=0)
    with pytest.raises(openai.InternalServerError, match="loaded") as caught:
        client.embeddings.create(model="any", input="x")
    assert caught.value.status_code == 503


def test_cohere_is_told_what_is_wrong(server: Running):
    cohere = need("cohere")
    client = cohere.ClientV2(api_key=KEY, base_url=server.url)
    assert len(client.rerank(model="any", query=QUERY, documents=TEXTS, top_n=3, max_tokens_per_doc=64).results) == 3
    with pytest.raises(cohere.errors.UnprocessableEntityError):
        client.rerank(model="any", query=QUERY, documents=[])
    with pytest.raises(cohere.errors.UnprocessableEntityError, match="embedding_types"):
        client.embed(model="any", texts=TEXTS[:1], input_type="search_query", embedding_types=["int8"])
    with pytest.raises(cohere.errors.UnauthorizedError):
        cohere.ClientV2(api_key="wrong", base_url=server.url).rerank(model="any", query=QUERY, documents=["x"])
