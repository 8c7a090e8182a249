"""Prompts and instructions over HTTP: every route that has them, in its own words, against the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the [serve] extra is not installed")

from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus
from tandem.engine.server import ServerSettings, Service
from tandem.engine.text.prompting import LONGEST_PROMPT

from ...prompted import TEMPLATE, with_manifest
from .conftest import KEY, Running, post, running

PROMPTS = {
    "query": "query: ",
    "passage": "passage: ",
    "named": {"document": "find a document: ", "code": "find code: "},
}
TOO_LONG = "x" * (LONGEST_PROMPT + 1)
TEXTS = ["open a file", "start a thread and wait", "parse json into a dictionary"]


@pytest.fixture(scope="module")
def prompted(
    tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, tiny_cross_encoder: Path
) -> Iterator[Engine]:
    """A bi-encoder with prompts of its own, and a reranker that reads a template with an instruction."""
    folder = tmp_path_factory.mktemp("served-prompts")
    encoder = with_manifest(tiny_bi_encoder, folder / "encoder", prompts=PROMPTS)
    reranker = with_manifest(tiny_cross_encoder, folder / "reranker", pair_text=TEMPLATE.model_dump())
    index_corpus("python:json,threading", folder / "c", encoder=encoder, reranker=reranker)
    with Engine.open(folder / "c", device="cpu", warm_up=False, reranker_precision="fp32") as opened:
        yield opened


@pytest.fixture(scope="module")
def server(prompted: Engine) -> Iterator[Running]:
    with running(Service(ServerSettings(api_keys=[KEY]), prompted)) as served:
        yield served


def plain(engine: Engine, texts: list[str]) -> np.ndarray:
    return asyncio.run(engine.aembed(texts)).vectors


ASKED = [
    ({"prompt_name": "document"}, "find a document: "),  # the model's own name, not what others call a passage
    ({"prompt_name": "passage"}, "passage: "), ({"prompt_name": "search_document"}, "passage: "),
    ({"prompt_name": "code"}, "find code: "), ({"prompt": "mine: "}, "mine: "), ({"prompt": ""}, ""), ({}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "before"), ASKED)
def test_embedding_routes(server: Running, prompted: Engine, fields: dict[str, str], before: str):
    expected = plain(prompted, [before + text for text in TEXTS])
    np.testing.assert_allclose(post(server, "/embed", inputs=TEXTS, **fields), expected, atol=1e-5)
    np.testing.assert_allclose(post(server, "/", inputs=TEXTS, **fields), expected, atol=1e-5)
    data = post(server, "/v1/embeddings", input=TEXTS, **fields)["data"]
    np.testing.assert_allclose([each["embedding"] for each in data], expected, atol=1e-5)
    tokens = post(server, "/tokenize", inputs=TEXTS[:1], add_special_tokens=False, **fields)[0]
    assert [token["id"] for token in tokens] == prompted.encoder.tokenizer.encode(before + TEXTS[0]).tolist()


def test_names_in_cohere_s_and_jina_s_words(server: Running, prompted: Engine):
    expected = plain(prompted, ["find code: " + text for text in TEXTS])
    told = post(server, "/v2/embed", texts=TEXTS, input_type="code", embedding_types=["float"])
    np.testing.assert_allclose(told["embeddings"]["float"], expected, atol=1e-5)
    for field in ("input_type", "task"):
        data = post(server, "/v1/embeddings", input=TEXTS, **{field: "code"})["data"]
        np.testing.assert_allclose([each["embedding"] for each in data], expected, atol=1e-5)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank", "/infinity/rerank"])
def test_rerank_with_an_instruction(server: Running, prompted: Engine, path: str):
    fields = {"query": "wait?", "documents": TEXTS, "raw_scores": True}
    for asked in ({}, {"instruction": "find code"}):
        expected = {one.index: one.score for one in prompted.rerank("wait?", TEXTS, **asked)}
        results = post(server, path, **fields, **asked)["results"]
        assert {each["index"]: each["relevance_score"] for each in results} == pytest.approx(expected, abs=1e-4)


def test_tei_s_rerank_and_vllm_s_score_with_an_instruction(server: Running, prompted: Engine):
    expected = {one.index: one.score for one in prompted.rerank("wait?", TEXTS, instruction="find code")}
    ranked = post(server, "/rerank", query="wait?", texts=TEXTS, raw_scores=True, instruction="find code")
    assert {each["index"]: each["score"] for each in ranked} == pytest.approx(expected, abs=1e-4)
    scores = post(
        server, "/v1/score", text_1="wait?", text_2=TEXTS, use_activation=False, instruction="find code"
    )["data"]  # fmt: skip
    assert {each["index"]: each["score"] for each in scores} == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "asked", [{}, {"prompt_name": "code"}, {"prompt": "mine: "}, {"instruction": "find code"}], ids=str
)
def test_search(server: Running, prompted: Engine, asked: dict[str, str]):
    expected = prompted.search("wait for a thread", budget_ms=None, **asked)
    found = post(server, "/v1/search", query="wait for a thread", budget_ms=None, **asked)
    assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in expected.hits]
    assert [hit["score"] for hit in found["hits"]] == pytest.approx([hit.score for hit in expected.hits], abs=1e-3)


REFUSED = [
    ("/embed", {"inputs": "a", "prompt_name": "sts"}, "known are query, passage, document, code"),
    ("/tokenize", {"inputs": "a", "prompt_name": "sts"}, "known are query, passage, document, code"),
    ("/v1/embeddings", {"input": "a", "input_type": "sts"}, "known are query, passage, document, code"),
    ("/v1/embeddings", {"input": "a", "input_type": "code", "prompt_name": "query"}, "one of the two"),
    ("/v1/embeddings", {"input": "a", "instruction": "find code"}, "takes no instruction"),
    ("/v2/embed", {"texts": ["a"], "input_type": "image"}, "known are query, passage, document, code"),
    ("/v1/search", {"query": "a", "prompt_name": "sts"}, "known are query, passage, document, code"),
    ("/v1/search", {"query": "a", "instruction": "find", "rerank": False}, "leave it out"),
    ("/v1/search", {"query": "a", "prompt": "x", "prompt_name": "code"}, "one of the two"),
    ("/v1/rerank", {"query": "a", "documents": ["b"], "prompt_name": "code"}, "known are none"),
    ("/v1/rerank", {"query": "a", "documents": ["b"], "instruction": TOO_LONG}, f"the limit is {LONGEST_PROMPT}"),
    ("/rerank", {"query": "a", "texts": ["b"], "prompt": "x", "instruction": "y"}, "one of the two"),
]


@pytest.mark.parametrize(("path", "fields", "said"), REFUSED)
def test_what_a_model_does_not_take_is_refused_in_words(
    server: Running, path: str, fields: dict[str, object], said: str
):
    answer = server.client.post(path, json=fields)
    assert answer.status_code == 422, answer.text
    assert said in answer.text


def test_what_may_be_asked_for_is_told(server: Running):
    encoder, reranker = server.client.get("/v1/models").json()["data"]
    assert encoder["prompts"] == ["query", "passage", "document", "code"]
    assert (encoder["instruction"], reranker["instruction"]) == (False, True)
    assert server.client.get("/info").json()["prompts"] == encoder["prompts"]
