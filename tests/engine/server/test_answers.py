"""What the routes answer is what /openapi.json says: every field is named there, and none is missing."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError

from tandem.engine.server.errors import dialect_of
from tandem.engine.server.response_schemas import _FAILURES
from tandem.engine.server.routes import ROUTERS

from .conftest import Running
from .test_app import BODIES, GETS, QUERY, TEXTS

OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/search", {"queries": [QUERY, "bread"], "return_text": False}),
    ("/v1/search", {"query": QUERY, "rerank": False}),
    ("/v1/search", {"query": QUERY, "budget_ms": 0.001}),
    ("/rerank", {"query": QUERY, "texts": TEXTS, "return_text": True}),
    ("/rerank", {"query": QUERY, "documents": TEXTS, "return_documents": True}),
    ("/rerank", {"query": QUERY, "documents": TEXTS, "property": "content"}),
    ("/rerank", {"query": {"text": QUERY}, "passages": [{"text": text} for text in TEXTS]}),
    ("/v1/rerank", {"query": QUERY, "documents": TEXTS, "return_documents": True}),
    ("/predict", {"inputs": [[QUERY, TEXTS[0]], [QUERY, TEXTS[1]]]}),
    ("/embed", {"inputs": TEXTS[0]}),
    ("/v1/embeddings", {"input": TEXTS, "encoding_format": "base64"}),
    ("/", {"query": QUERY, "texts": TEXTS}),
    ("/", {"inputs": {"source_sentence": QUERY, "sentences": TEXTS}}),
    ("/v2/embed", {"texts": TEXTS, "embedding_types": ["base64"]}),
    ("/v1/embed", {"texts": TEXTS}),
]


def models() -> dict[str, Any]:
    """The model of each route's answer; "GET /" is a page."""
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    return {route.path: route.response_model for route in sorted(routes, key=lambda route: "POST" in route.methods)}


MODELS = models()


def conforms(model: Any, answer: httpx.Response) -> None:
    assert model is not None
    TypeAdapter(model).validate_json(answer.content, strict=True)


@pytest.mark.parametrize(("path", "body"), [*BODIES.items(), *OTHERS])
def test_an_answer_is_as_described(server: Running, path: str, body: dict[str, Any]):
    answer = server.client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    twins = {"/embeddings": "/v1/embeddings", "/v1/retrieval/nvidia/reranking": "/v1/ranking", "/v1/embed": "/v2/embed"}
    conforms(MODELS[twins.get(path, path)], answer)


@pytest.mark.parametrize("path", sorted({*GETS} - {"/", "/docs", "/openapi.json", "/metrics", "/nowhere"}))
def test_what_is_told_is_as_described(server: Running, path: str):
    conforms(MODELS[path], server.client.get(path))


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("body", [{}, {"query": 3}, None], ids=["empty", "wrong", "no object"])
def test_a_refusal_is_as_described(server: Running, path: str, body: object):
    keyless = httpx.post(f"{server.url}{path}", json=body, trust_env=False)
    wrong = server.client.post(path, json=body)
    assert keyless.status_code == 401
    assert 400 <= wrong.status_code < 500
    for answer in (keyless, wrong):
        conforms(_FAILURES[dialect_of(path)], answer)


@pytest.mark.parametrize(
    ("path", "body", "optional"),
    [
        ("/rerank", {"query": QUERY, "texts": TEXTS, "return_text": True}, "text"),
        ("/v1/rerank", {"query": QUERY, "documents": TEXTS, "return_documents": True}, "document"),
        ("/v1/search", {"query": QUERY}, "text"),
    ],
)
def test_what_may_be_left_out_is_there_when_it_is_wanted(server: Running, path: str, body: dict, optional: str):
    answer = server.client.post(path, json=body).json()
    rows = answer if isinstance(answer, list) else answer.get("results") or answer["hits"]
    assert rows
    assert all(row[optional] for row in rows)


def test_the_description_names_every_dialects_failures(server: Running):
    paths = server.client.get("/openapi.json").json()["paths"]
    for path in BODIES:
        if path in paths:
            schema = paths[path]["post"]["responses"]["4XX"]["content"]["application/json"]["schema"]
            assert schema["$ref"].endswith(f"/{_FAILURES[dialect_of(path)].__name__}"), path


@pytest.mark.parametrize("more", [{"undeclared": 1}, {"timings": {}}, {"hits": [{"id": "1"}]}])
def test_what_is_not_declared_does_not_conform(server: Running, more: dict[str, Any]):
    answer = server.client.post("/v1/search", json={"query": QUERY}).json()
    TypeAdapter(MODELS["/v1/search"]).validate_python(answer)
    with pytest.raises(ValidationError):
        TypeAdapter(MODELS["/v1/search"]).validate_python({**answer, **more})


def test_what_the_command_line_calls_none_is_null_here(server: Running):
    schema = server.client.get("/openapi.json").json()["components"]["schemas"]["SearchBody"]["properties"]
    assert "null: no limit" in schema["budget_ms"]["description"]
    assert {"type": "null"} in schema["candidates"]["anyOf"]
