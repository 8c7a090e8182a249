"""Answers in the shapes and orders that each family's clients read."""

from __future__ import annotations

import base64

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the [serve] extra is not installed")

from pydantic import ValidationError

from tandem.engine import Engine
from tandem.engine.server.routes.openai import EmbeddingsBody
from tandem.engine.server.routes.rerank import DocumentsBody
from tandem.engine.server.routes.tei import EmbedBody, PredictBody
from tandem.engine.server.routes.tokens import DecodeBody

from .conftest import Running

QUERY = "read a json document"
HUNDRED = [f"passage {place % 90} about {'json' if place % 3 else 'threads and locks'}" for place in range(100)]


@pytest.fixture(scope="module")
def logits(engine: Engine) -> np.ndarray:
    return engine.reranker.score(QUERY, HUNDRED)


@pytest.fixture(scope="module")
def best(logits: np.ndarray) -> list[int]:
    return np.argsort(-logits, kind="stable").tolist()


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def post(server: Running, path: str, **fields: object):
    answer = server.client.post(path, json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ordered(entries: list[dict], score: str, expected: np.ndarray) -> None:
    """Sorted by score, one entry for each index, each with the oracle's score."""
    scores = [entry[score] for entry in entries]
    assert scores == sorted(scores, reverse=True)
    assert sorted(entry["index"] for entry in entries) == list(range(len(expected)))
    np.testing.assert_allclose(scores, expected[[entry["index"] for entry in entries]], atol=1e-5)


def test_tei_rerank(server: Running, logits: np.ndarray):
    entries = post(server, "/rerank", query=QUERY, texts=HUNDRED, model="m", top_n=3, top_k=3)
    assert set(entries[0]) == {"index", "score"}
    ordered(entries, "score", sigmoid(logits))
    entries = post(server, "/rerank", query=QUERY, texts=HUNDRED, raw_scores=True, return_text=True)
    ordered(entries, "score", logits)
    assert all(entry["text"] == HUNDRED[entry["index"]] for entry in entries)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank", "/infinity/rerank"])
def test_documents(server: Running, logits: np.ndarray, path: str):
    ordered(post(server, path, query=QUERY, documents=HUNDRED)["results"], "relevance_score", sigmoid(logits))
    objects = [{"text": text} for text in HUNDRED]
    some = post(server, path, query=QUERY, documents=objects, top_n=7, rank_fields=["text"], return_documents=False)
    assert len(some["results"]) == 7
    assert "document" not in some["results"][0]
    assert len(post(server, path, query=QUERY, documents=HUNDRED, top_k=2)["results"]) == 2
    assert len(post(server, path, query=QUERY, documents=HUNDRED, top_n=0)["results"]) == 100
    for raw in ({"raw_scores": True}, {"use_activation": False}):
        ordered(post(server, path, query=QUERY, documents=HUNDRED, **raw)["results"], "relevance_score", logits)


@pytest.mark.parametrize(
    ("path", "fields", "form", "unasked"),
    [
        ("/rerank", {}, "object", True),  # vLLM
        ("/rerank", {"raw_scores": False}, "plain", False),  # Infinity's client sends it always, vLLM has none
        ("/infinity/rerank", {}, "plain", False),
        ("/v1/rerank", {}, "object", True),
        ("/v2/rerank", {}, "object", False),
    ],
)
def test_documents_come_back_as_each_family_types_them(
    server: Running, path: str, fields: dict, form: str, unasked: bool
):
    for asked, expected in (({}, unasked), ({"return_documents": True}, True), ({"return_documents": False}, False)):
        answer = post(server, path, query=QUERY, documents=["a b", "c d"], **fields, **asked)
        for entry in answer["results"]:
            text = ["a b", "c d"][entry["index"]]
            assert entry.get("document") == ({"plain": text, "object": {"text": text}}[form] if expected else None)


def test_weaviates_sidecar_gets_the_requests_order(server: Running, logits: np.ndarray):
    answer = post(server, "/rerank", query=QUERY, documents=HUNDRED, property="")
    assert [entry["document"] for entry in answer["scores"]] == HUNDRED
    np.testing.assert_allclose([entry["score"] for entry in answer["scores"]], sigmoid(logits), atol=1e-5)
    assert (answer["query"], answer["property"]) == (QUERY, "")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/ranking",
        "/rerank",
        "/v1/retrieval/nvidia/reranking",
        "/v1/retrieval/nvidia/a-model/reranking",
        "/v1/retrieval/a-model/reranking",
    ],
)
def test_nim(server: Running, logits: np.ndarray, path: str):
    asked = {"query": {"text": QUERY}, "passages": [{"text": text} for text in HUNDRED]}
    ordered(post(server, path, **asked)["rankings"], "logit", logits)
    assert len(post(server, path, **asked, top_k=3)["rankings"]) == 3
    assert "detail" in server.client.post(path, json={**asked, "passages": []}).json()


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
def test_vllm_scores_pairs(server: Running, logits: np.ndarray, path: str):
    answer = post(server, path, model="m", text_1=QUERY, text_2=HUNDRED)
    assert [(row["index"], row["object"]) for row in answer["data"]] == [(i, "score") for i in range(100)]
    np.testing.assert_allclose([row["score"] for row in answer["data"]], sigmoid(logits), atol=1e-5)
    pairs = post(server, path, data_1=["other", QUERY], data_2=HUNDRED[:2], use_activation=False)["data"]
    assert pairs[1]["score"] == pytest.approx(float(logits[1]), abs=1e-5)
    assert len(post(server, path, queries=[QUERY], documents=HUNDRED[0])["data"]) == 1
    for wrong in ({"text_1": ["a", "b"], "text_2": ["c", "d", "e"]}, {"text_1": [], "text_2": []}, {"text_1": "a"}):
        refused = server.client.post(path, json=wrong)
        assert refused.status_code == 422
        assert "text_" in refused.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/", "/invocations"])
def test_tei_answers_its_models_task_at_the_root(server: Running, path: str):
    texts = HUNDRED[:3]
    for inputs in (texts[0], texts):
        assert post(server, path, inputs=inputs) == post(server, "/embed", inputs=inputs)
    ranked = post(server, path, query=QUERY, texts=texts)
    assert ranked == post(server, "/rerank", query=QUERY, texts=texts)
    compared = {"source_sentence": QUERY, "sentences": texts}
    assert post(server, path, inputs=compared, parameters={}) == post(server, "/similarity", inputs=compared)
    assert server.client.post(path, json={"inputs": []}).json()["error_type"] == "Empty"


def test_cohere_embeds(server: Running, engine: Engine):
    vectors = engine.embed(HUNDRED[:2])
    asked = {"texts": HUNDRED[:2], "input_type": "search_query"}
    told = post(server, "/v2/embed", **asked, embedding_types=["float", "base64"])["embeddings"]
    np.testing.assert_allclose(told["float"], vectors, atol=1e-6)
    decoded = np.frombuffer(base64.b64decode(told["base64"][1]), "<f4")
    np.testing.assert_array_equal(decoded, np.float32(told["float"][1]))
    np.testing.assert_allclose(post(server, "/v1/embed", **asked)["embeddings"], vectors, atol=1e-6)
    assert len(post(server, "/v2/embed", **asked, output_dimension=8)["embeddings"]["float"][0]) == 8
    for wrong in ({"embedding_types": ["int8"]}, {"input_type": "image"}, {"texts": []}, {"texts": None, "images": []}):
        assert server.client.post("/v2/embed", json={**asked, **wrong}).status_code == 422


def test_clients_names_for_kinds_of_texts(server: Running):
    def vector(path: str, **fields: object) -> object:
        answer = post(server, path, **fields)
        return answer["data"][0]["embedding"] if path == "/v1/embeddings" else answer[0]

    for name, field in (("retrieval.query", "task"), ("passage", "input_type"), ("classification", "task")):
        assert vector("/v1/embeddings", input="a", **{field: name}) == vector("/v1/embeddings", input="a")
    assert vector("/embed", inputs="a", prompt_name="query") == vector("/embed", inputs="a")
    for path, field, text in (("/v1/embeddings", "input_type", "input"), ("/embed", "prompt_name", "inputs")):
        refused = server.client.post(path, json={text: "a", field: "nonsense"})
        assert (refused.status_code, field in refused.text) == (422, True)


def test_rerank_is_told_apart_by_one_field(server: Running):
    for fields in ({}, {"texts": ["a"], "documents": ["a"]}):
        answer = server.client.post("/rerank", json={"query": "q", **fields})
        assert answer.status_code == 422
        assert answer.json()["error_type"] == "Validation"
    for path, fields in (("/rerank", {"texts": []}), ("/embed", {"inputs": []})):
        answer = server.client.post(path, json={"query": "q", **fields})
        assert (answer.status_code, answer.json()["error_type"]) == (400, "Empty")


def test_stored_passages_by_id(server: Running, engine: Engine):
    hits = engine.search(QUERY, budget_ms=None).hits
    documents = [{"id": hit.id} for hit in hits]
    answer = post(server, "/v1/rerank", query=QUERY, documents=documents, return_documents=True)
    by_index = {entry["index"]: entry for entry in answer["results"]}
    expected = sigmoid(np.array([hit.rerank_score for hit in hits], dtype=np.float32))
    np.testing.assert_allclose([by_index[i]["relevance_score"] for i in range(10)], expected, atol=1e-5)
    assert by_index[3]["document"]["text"] == hits[3].text
    for wrong in ([{"id": "nowhere"}], [{"id": hits[0].id}, "text"]):
        refused = server.client.post("/v1/rerank", json={"query": QUERY, "documents": wrong})
        assert refused.status_code == 422
        assert str(engine.collection.path) not in refused.text


def test_truncation_can_be_forbidden(server: Running):
    long = "word " * 2_000
    for path, fields in (
        ("/rerank", {"query": "q", "texts": ["short", long], "truncate": False}),
        ("/embed", {"inputs": ["short", long], "truncate": False}),
        ("/v1/ranking", {"query": {"text": "q"}, "passages": [{"text": "short"}, {"text": long}], "truncate": "NONE"}),
    ):
        answer = server.client.post(path, json=fields)
        assert answer.status_code == 422
        assert " 1 is longer" in answer.text
    assert len(post(server, "/rerank", query="q", texts=["short", long])) == 2
    # Cut to five tokens, the long one is as the short one.
    cut = post(server, "/v2/rerank", query="q", documents=["word " * 5, long], max_tokens_per_doc=5)["results"]
    assert cut[0]["relevance_score"] == pytest.approx(cut[1]["relevance_score"], abs=1e-6)


@pytest.mark.parametrize("words", [500, 100_000])
def test_tei_cuts_on_the_side_that_was_asked_for(server: Running, words: int):
    """A text is its last words on the left, its first on the right, also where the server cuts before it tokenises."""
    first, last = "begin " + "return value " * 300, "of the list " * 300 + "end"
    long = f"{first}{'word ' * words}{last}"
    for path, fields, name in (("/embed", {}, "inputs"), ("/rerank", {"query": "q", "raw_scores": True}, "texts")):
        for side, kept in (("Left", last), ("Right", first)):
            settings = fields | {"truncation_direction": side}
            answers = [server.client.post(path, json=settings | {name: [text]}).json() for text in (long, kept, "word")]
            values = [answer[0]["score"] if name == "texts" else answer[0] for answer in answers]
            np.testing.assert_allclose(values[0], values[1], atol=1e-5)
            assert not np.allclose(values[0], values[2], atol=1e-3)


def test_tei_embed_predict_similarity(server: Running, engine: Engine):
    texts = HUNDRED[:3]
    expected = engine.embed(texts)  # the tiny model has no prompts
    answer = server.client.post("/embed", json={"inputs": texts})
    np.testing.assert_allclose(answer.json(), expected, atol=1e-6)
    assert answer.headers["x-compute-type"] == "cpu"
    assert int(answer.headers["x-compute-characters"]) == sum(map(len, texts))
    assert int(answer.headers["x-compute-tokens"]) > 0
    assert {"x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time", "x-compute-time"} <= set(
        answer.headers
    )
    np.testing.assert_allclose(post(server, "/embed", inputs=texts[0]), expected[:1], atol=1e-6)
    cosines = post(server, "/similarity", inputs={"source_sentence": texts[0], "sentences": texts[1:]})
    np.testing.assert_allclose(cosines, expected[1:] @ expected[0], atol=1e-5)
    logits = engine.reranker.score(QUERY, texts)
    one = post(server, "/predict", inputs=[QUERY, texts[0]], raw_scores=True)
    assert (one[0]["label"], one[0]["score"]) == ("LABEL_0", pytest.approx(float(logits[0]), abs=1e-5))
    many = post(server, "/predict", inputs=[[QUERY, texts[1]], ["other", texts[0]], [QUERY, texts[0]]])
    assert many[2][0]["score"] == pytest.approx(float(sigmoid(logits[:1])[0]), abs=1e-5)
    for wrong in ("alone", [["a"]], [["a", "b", "c"]]):
        assert server.client.post("/predict", json={"inputs": wrong}).status_code == 422


def test_tei_tokenize_and_decode(server: Running, engine: Engine):
    text = "read a json document"
    tokens = post(server, "/tokenize", inputs=text)[0]
    assert tokens[0]["special"]
    assert tokens[0]["start"] is None
    plain = [token for token in tokens if not token["special"]]
    assert [token["id"] for token in plain] == engine.encoder.tokenizer.encode(text).tolist()
    assert all(token["text"] == text[token["start"] : token["stop"]] for token in plain)
    bare = post(server, "/tokenize", inputs=[text], add_special_tokens=False)[0]
    assert [token["id"] for token in bare] == [token["id"] for token in plain]
    decoded = post(server, "/decode", ids=[token["id"] for token in tokens])
    assert decoded == [engine.encoder.tokenizer.decode([token["id"] for token in tokens])]
    for wrong in ([-1], [10**9], [[1], [10**9]]):
        assert server.client.post("/decode", json={"ids": wrong}).status_code == 422


def test_tei_info_and_metrics(server: Running):
    info = server.client.get("/info").json()
    assert info["max_client_batch_size"] >= 1000
    assert info["auto_truncate"] is True
    assert "reranker" in info["model_type"]
    post(server, "/rerank", query="q", texts=["t"])
    text = server.client.get("/metrics").text
    for name in (
        "te_request_count", "te_request_success", "te_request_duration_bucket", "te_request_queue_duration_bucket",
        "te_request_tokenization_duration_bucket", "te_request_inference_duration_bucket", "te_queue_size",
        "te_request_input_length_bucket", "te_batch_next_size_bucket", "te_batch_next_tokens_bucket",
        "tandem_requests_total", "tandem_request_seconds_bucket", "tandem_stage_seconds_bucket", "tandem_queue_tokens",
        "tandem_reserved_tokens", "tandem_ready", "tandem_device_info",
    ):  # fmt: skip
        assert f"\n{name}" in text, name
    assert 'tandem_requests_total{route="/rerank",status="200"}' in text


def test_openai_embeddings(server: Running, engine: Engine):
    texts = HUNDRED[:2]
    plain = post(server, "/v1/embeddings", input=texts, model="m")
    packed = post(server, "/v1/embeddings", input=texts, model="m", encoding_format="base64")
    vectors = np.array([entry["embedding"] for entry in plain["data"]], dtype=np.float32)
    decoded = [np.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in packed["data"]]
    np.testing.assert_array_equal(vectors, decoded)
    np.testing.assert_allclose(vectors, engine.embed(texts), atol=1e-6)
    assert plain["usage"]["prompt_tokens"] == plain["usage"]["total_tokens"] > 0
    assert post(server, "/embeddings", input=texts, dimensions=0)["data"] == plain["data"]  # Infinity's client
    short = post(server, "/v1/embeddings", input=texts[0], dimensions=8)["data"][0]["embedding"]
    np.testing.assert_allclose(short, vectors[0, :8] / np.linalg.norm(vectors[0, :8]), atol=1e-6)
    jinas = post(server, "/v1/embeddings", input=texts, task="retrieval.passage", embedding_type="base64")
    assert jinas["data"] == packed["data"]
    assert server.client.post("/v1/embeddings", json={"input": "x", "embedding_type": "binary"}).status_code == 422
    for wrong in ([1, 2], [[1, 2], [3]]):
        answer = server.client.post("/v1/embeddings", json={"input": wrong, "model": "m"})
        assert answer.status_code == 400
        assert "check_embedding_ctx_length" in answer.json()["error"]["message"]
    too_wide = server.client.post("/v1/embeddings", json={"input": "x", "dimensions": 10_000})
    assert (too_wide.status_code, too_wide.json()["error"]["param"]) == (422, "dimensions")


def test_search(server: Running, engine: Engine):
    expected = engine.search(QUERY, budget_ms=None, top_k=5)
    answer = post(server, "/v1/search", query=QUERY, budget_ms=None, top_k=5)
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in expected.hits]
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3, 4, 5]
    assert set(answer["hits"][0]) >= {"text", "recall_score", "rerank_score", "recall_rank", "score", "metadata"}
    assert (answer["reranked"], answer["degraded"], answer["device"]) == (expected.reranked, None, "cpu")
    assert answer["timings"]["total"] > 0
    many = post(server, "/v1/search", queries=[QUERY, "locks"], budget_ms=None, top_k=5, return_text=False)["results"]
    assert [hit["id"] for hit in many[0]["hits"]] == [hit.id for hit in expected.hits]
    assert "text" not in many[0]["hits"][0]
    lenient = post(server, "/v1/search", query=QUERY, rerank=False, top_k="200", candidates=None)
    recall = post(server, "/v1/search", query=QUERY, rerank=False, top_k=200)
    assert [hit["id"] for hit in lenient["hits"]] == [hit["id"] for hit in recall["hits"]]
    assert [hit["recall_rank"] for hit in recall["hits"]] == list(range(1, len(recall["hits"]) + 1))
    none = post(server, "/v1/search", query=QUERY, filters={"year": 2020})
    assert (none["hits"], none["candidates"]) == ([], 0)
    assert none["warnings"][0].startswith("no passage has the field 'year'")
    some = post(server, "/v1/search", query=QUERY, top_k=5, budget_ms=None, filters={"$not": {"year": 2020}})
    assert [hit["id"] for hit in some["hits"]] == [hit.id for hit in expected.hits]
    hurried = server.client.post("/v1/search", json={"query": QUERY, "budget_ms": 0.001})
    told = hurried.json()
    assert told["degraded"] == f"budget: {told['reranked']} of 30 candidates were reranked in time"
    assert told["degraded_code"] in ("fewer_candidates", "cut_short")
    assert hurried.headers["x-degraded"] == "1"


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({}, 422, "one of the two"),
        ({"query": "a", "queries": ["b"]}, 422, "one of the two"),
        ({"query": "a", "filters": {"year": {"$near": 2020}}}, 422, "filters"),
        ({"query": "a", "filters": [1]}, 422, "filters"),
        ({"query": "a", "top_k": 11, "candidates": 10}, 422, "top_k"),
        ({"query": "a", "budget_ms": 0}, 422, "budget_ms"),
        ({"query": " "}, 422, "empty"),
        ({"queries": []}, 422, "empty"),
        ({"query": "a", "collection": "other"}, 404, "collection"),
        ({"query": "a", "filter": {"year": 2020}}, 422, "field 'filter' is unknown; did you mean filters?"),
        ({"query": "a", "topk": 1}, 422, "field 'topk' is unknown; did you mean top_k?"),
        ({"query": "a", "model": "m"}, 422, "known are "),
        ({"query": "a", "x" * 1000: 1}, 422, "x…"),
    ],
)
def test_search_refuses(server: Running, fields: dict, status: int, message: str):
    answer = server.client.post("/v1/search", json=fields)
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


def test_collections(server: Running, engine: Engine):
    (entry,) = server.client.get("/v1/collections").json()["collections"]
    assert entry["name"] == "docs"
    assert entry["passages"] == len(engine.collection)
    assert "/" not in entry["name"]


BLANK = ["", " \n\t", "sort a list", "bread and butter"]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/", {"texts": BLANK}),
        ("/rerank", {"texts": BLANK}),
        ("/rerank", {"texts": BLANK, "raw_scores": True, "truncation_direction": "Left"}),
        ("/rerank", {"documents": BLANK}),
        ("/rerank", {"documents": BLANK, "raw_scores": True}),
        ("/rerank", {"documents": BLANK, "property": ""}),
        ("/rerank", {"documents": [*BLANK[:1], " " * 50_000, *BLANK[2:]]}),
        ("/v1/rerank", {"documents": BLANK, "top_n": 4}),
        ("/v2/rerank", {"documents": [{"text": text} for text in BLANK]}),
        ("/infinity/rerank", {"documents": BLANK}),
        ("/v1/ranking", {"passages": [{"text": text} for text in BLANK]}),
    ],
)
def test_a_blank_text_comes_last(server: Running, path: str, fields: dict):
    query = {"text": QUERY} if "passages" in fields else QUERY
    answer = post(server, path, query=query, **fields)
    rows = answer if isinstance(answer, list) else next(answer[name] for name in KEYS if name in answer)
    scores = [next(row[name] for name in ("score", "relevance_score", "logit") if name in row) for row in rows]
    if "property" in fields:
        assert max(scores[:2]) < min(scores[2:])
    else:
        assert [row["index"] for row in rows][2:] == [0, 1]
        assert max(scores[2:]) < min(scores[:2])
    assert np.isfinite(scores).all()


KEYS = ("results", "scores", "rankings")


def test_blank_texts_have_vectors_and_scores_too(server: Running):
    assert len(post(server, "/embed", inputs=["a", ""])) == 2
    assert len(post(server, "/v1/embeddings", input=["", "a"])["data"]) == 2
    blank, other = post(server, "/predict", inputs=[[QUERY, " "], [QUERY, "a"]])
    assert blank[0]["score"] < other[0]["score"]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v2/rerank", {"query": "q", "documents": [1] * 3000}),
        ("/v1/rerank", {"query": "q", "documents": [None] * 3000}),
        ("/rerank", {"query": "q", "texts": [1] * 3000}),
        ("/rerank", {"query": "q", "documents": [1] * 3000}),
        ("/embed", {"inputs": [None] * 3000}),
        ("/embed", {"inputs": [[None] * 100_000]}),
        ("/predict", {"inputs": [["a", "b"]] * 3000}),
        ("/predict", {"inputs": [["a"] * 100_000]}),
        ("/tokenize", {"inputs": [1] * 3000}),
        ("/decode", {"ids": [None] * 100_000}),
        ("/decode", {"ids": [[1] * 100_000]}),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": [1] * 3000}}),
        ("/v1/embeddings", {"input": [[]] * 3000}),
        ("/v1/embeddings", {"input": [[1] * 100_000]}),
        ("/v1/ranking", {"query": {"text": "q"}, "passages": [1] * 3000}),
        ("/v1/search", {"queries": [1] * 3000}),
        ("/v1/rerank", {"query": "q", "documents": ["a"], "rank_fields": ["text"] * 3000}),
    ],
)
def test_long_and_wrong_lists_are_refused(server: Running, path: str, fields: dict):
    answer = server.client.post(path, json=fields)
    assert answer.status_code in (400, 422)  # 400: token ids of another model
    assert len(answer.text) < 500, "one thing that is wrong, not each"


def test_values_are_counted_before_any_is_made(server: Running):
    """2.7 million empty lists stopped the event loop for 6.6 s."""
    body = b'{"query":"q","texts":[' + b",".join([b"[]"] * 2_700_000) + b"]}"
    answer = server.client.post("/rerank", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert "the limit is 131072" in answer.json()["error"]


def test_checking_ends_at_the_first_wrong_entry():
    for model, fields in (
        (DocumentsBody, {"query": "q", "documents": [1] * 2000}),
        (EmbedBody, {"inputs": [None] * 2000}),
        (EmbedBody, {"inputs": [[1], *[[None] * 20] * 2000]}),
        (PredictBody, {"inputs": [[1, 2]] * 2000}),
        (DecodeBody, {"ids": [None] * 2000}),
        (EmbeddingsBody, {"input": [[], *[None] * 2000]}),
    ):
        with pytest.raises(ValidationError) as caught:
            model.model_validate(fields)
        assert caught.value.error_count() <= 4  # one a branch


def test_a_document_with_an_id_is_stored_only_where_none_of_its_fields_is_read(server: Running):
    documents = [{"title": "sort a list", "id": "x1"}, {"title": "a file", "id": "x2"}]
    some = post(server, "/v1/rerank", query=QUERY, documents=documents, rank_fields=["title"])["results"]
    plain = post(server, "/v1/rerank", query=QUERY, documents=["sort a list", "a file"])["results"]
    assert some == plain
    answer = server.client.post("/v1/rerank", json={"query": QUERY, "documents": documents})
    assert "no passage" in answer.text


def test_null_is_absent(server: Running):
    assert post(server, "/rerank", query=QUERY, documents=["a"], texts=None, passages=None)["results"]
    assert isinstance(post(server, "/v1/embeddings", input="a", encoding_format=None)["data"][0]["embedding"], list)


def test_every_query_is_looked_at_before_any_is_searched(server: Running):
    answer = server.client.post("/v1/search", json={"queries": ["a", " "]})
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        422,
        "query 1 is empty; give at least one word",
    )


def test_what_is_tokenised_is_bounded_by_what_it_answers(server: Running):
    answer = server.client.post("/tokenize", json={"inputs": ["x" * 500] * 600})
    assert answer.status_code == 422
    assert "262144 a request" in answer.text


@pytest.mark.parametrize(
    "filters", [{"hunter2": {"$hunter2": "hunter2"}}, {"$hunter2": ["hunter2"]}, {"x": {"$in": "hunter2"}}]
)
def test_a_wrong_filter_is_not_repeated(server: Running, filters: dict):
    answer = server.client.post("/v1/search", json={"query": "a", "filters": filters})
    assert answer.status_code == 422
    assert "SearchSettings" not in answer.text
    assert "hunter2" not in answer.text
    assert len(answer.text) < 400


def test_a_field_name_of_megabytes_is_refused_in_a_short_sentence(server: Running):
    answer = server.client.post("/v1/search", json={"query": "q", "x" * 2_000_000: 1})
    assert answer.status_code == 422
    assert len(answer.text) < 1000
