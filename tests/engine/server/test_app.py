"""What every route has: keys, limits, errors in its dialect, ids, probes, deadlines."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tandem.engine import Engine
from tandem.engine.server.app import create_admin
from tandem.engine.server.auth import Auth
from tandem.engine.server.service import Service
from tandem.engine.server.settings import ServerSettings

from .conftest import KEY, Running, until

QUERY = "read a json document"
TEXTS = ["json.loads reads a document", "a lock of threads", "bread and butter"]
# Each POST route with a body that it answers.
BODIES = {
    "/v1/search": {"query": QUERY},
    "/": {"inputs": TEXTS},
    "/embed": {"inputs": TEXTS},
    "/predict": {"inputs": [QUERY, TEXTS[0]]},
    "/tokenize": {"inputs": TEXTS},
    "/decode": {"ids": [5, 6]},
    "/similarity": {"inputs": {"source_sentence": QUERY, "sentences": TEXTS}},
    "/rerank": {"query": QUERY, "texts": TEXTS},
    "/v1/rerank": {"query": QUERY, "documents": TEXTS},
    "/v2/rerank": {"query": QUERY, "documents": TEXTS},
    "/infinity/rerank": {"query": QUERY, "documents": TEXTS},
    "/v2/embed": {"texts": TEXTS},
    "/v1/score": {"text_1": QUERY, "text_2": TEXTS},
    "/v1/embeddings": {"input": TEXTS},
    "/embeddings": {"input": TEXTS},
    "/v1/ranking": {"query": {"text": QUERY}, "passages": [{"text": text} for text in TEXTS]},
    "/v1/retrieval/nvidia/reranking": {"query": {"text": QUERY}, "passages": [{"text": text} for text in TEXTS]},
}
GETS = ("/", "/docs", "/openapi.json", "/info", "/metrics", "/v1/collections", "/v1/models", "/meta", "/nowhere")
PROBES = ("/livez", "/readyz", "/health", "/ping", "/v1/health/live", "/v1/health/ready", "/.well-known/ready")


def message_of(path: str, body: dict) -> str:
    """Where each family's clients look for the message."""
    if path in ("/v1/embeddings", "/embeddings", "/v1/score", "/v1/search"):
        return body["error"]["message"]
    if path in ("/v1/ranking", "/v1/retrieval/nvidia/reranking"):
        return body["detail"][0]["msg"] if isinstance(body["detail"], list) else body["detail"]
    assert body["error_type"] in ("Validation", "Empty", "Overloaded", "Unhealthy", "Backend")
    assert body["error"] == body["message"] == body["detail"]
    return body["error"]


@pytest.mark.parametrize("path", BODIES)
def test_every_post_route_answers(server: Running, path: str):
    answer = server.client.post(path, json=BODIES[path])
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("key", [None, "Bearer", "Bearer " + "x" * 32, f"Bearer {KEY}x", f"Token {KEY}", "Basic %%%"])
def test_no_post_route_without_its_key(server: Running, path: str, key: str | None):
    client = server.client
    request = client.build_request("POST", path, json=BODIES[path])
    del request.headers["authorization"]
    if key is not None:
        request.headers["authorization"] = key
    answer = client.send(request)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "key" in message_of(path, answer.json())


@pytest.mark.parametrize("path", GETS)
def test_no_get_route_without_its_key(server: Running, path: str):
    assert server.client.get(path, headers={"authorization": ""}).status_code == 401
    assert server.client.get(path).status_code == (404 if path == "/nowhere" else 200)


@pytest.mark.parametrize("path", PROBES)
def test_probes_need_no_key(server: Running, path: str):
    assert server.client.get(path, headers={"authorization": ""}).status_code == 200


def test_a_browser_is_asked_for_the_key_and_gives_it_as_a_password(server: Running):
    asked = server.client.get("/", headers={"authorization": "", "accept": "text/html"})
    assert (asked.status_code, asked.headers["www-authenticate"]) == (401, 'Basic realm="tandem"')
    request = server.client.build_request("GET", "/")
    del request.headers["authorization"]
    assert server.client.send(request, auth=("anyone", KEY)).status_code == 200


def test_other_web_pages_are_refused(server: Running):
    ours = server.client.post("/v1/search", json={"query": "x"}, headers={"origin": server.url})
    other = server.client.post("/v1/search", json={"query": "x"}, headers={"origin": "https://evil.example"})
    assert (ours.status_code, other.status_code) == (200, 403)


def test_without_keys_only_names_of_this_machine_are_answered(start: Callable[..., Running]):
    server = start(api_keys=(), allowed_hosts=("search.example",))
    for host, status in (("localhost:80", 200), ("search.example", 200), ("evil.example", 403), ("[::1]:8080", 200)):
        assert server.client.get("/info", headers={"host": host, "authorization": ""}).status_code == status


@pytest.mark.parametrize("path", BODIES)
def test_bad_bodies_are_told_in_the_routes_dialect(server: Running, path: str):
    for content, status in ((b"{", 422), (b"[]", 422), (b"{}", 422), (b'{"query": NaN}', 422), (b"\xff", 422)):
        answer = server.client.post(path, content=content, headers={"content-type": "application/json"})
        assert answer.status_code == status, (content, answer.text)
        assert message_of(path, answer.json())
    deep = server.client.post(path, content=b"[" * 100_000, headers={"content-type": "application/json"})
    assert deep.status_code == 422


@pytest.mark.parametrize("path", BODIES)
def test_what_was_sent_is_never_repeated(server: Running, path: str, caplog: pytest.LogCaptureFixture):
    secret = "hunter2hunter2"
    with caplog.at_level(logging.DEBUG, logger="tandem"):
        for fields in ({name: {secret: secret} for name in BODIES[path]}, {name: [[secret]] for name in BODIES[path]}):
            answer = server.client.post(path, json=fields)
            assert answer.status_code == 422
            assert secret not in answer.text
        server.client.post(path, json=BODIES[path])
        server.client.get(f"/{secret}")
    assert all(secret not in str(vars(record)) and QUERY not in str(vars(record)) for record in caplog.records)
    assert secret not in server.client.get("/metrics").text


def test_bodies_are_counted_not_believed(start: Callable[..., Running]):
    server = start(max_body_bytes=10_000, max_text_characters=100, max_documents=10, max_inputs=3, max_queries=2)

    def post(path: str, **fields: object) -> tuple[int, str]:
        answer = server.client.post(path, json=fields)
        return answer.status_code, answer.text

    assert server.client.post("/v2/rerank", content=b"x" * 10_001).status_code == 413
    chunked = server.client.post("/v2/rerank", content=iter([b"x" * 6_000, b"x" * 6_000]))
    assert chunked.status_code == 413
    assert "10000 bytes" in chunked.json()["message"]
    assert post("/rerank", query="q", texts=["t"] * 11)[0] == 422
    assert post("/rerank", query="q", texts=["t"] * 10)[0] == 200
    assert post("/v2/rerank", query="q" * 101, documents=["t"])[0] == 422
    assert "document 1" in post("/v2/rerank", query="q", documents=["t", "t" * 101])[1]
    assert post("/embed", inputs=["t"] * 4)[0] == 422
    assert post("/tokenize", inputs=["t"] * 4)[0] == 422
    assert post("/v1/search", queries=["q"] * 3)[0] == 422
    assert post("/v1/search", query="q" * 101)[0] == 422


def test_compressed_bodies_are_refused(server: Running):
    answer = server.client.post("/v2/rerank", content=b"x", headers={"content-encoding": "gzip"})
    assert answer.status_code == 415
    assert "compressed" in answer.json()["message"]


def test_a_slow_body_is_ended(start: Callable[..., Running]):
    server = start(body_timeout_ms=200)
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = f"POST /v2/rerank HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {KEY}\r\n"
        connection.sendall(f"{head}Content-Length: 100\r\nContent-Type: application/json\r\n\r\n".encode() + b"{")
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_request_ids_are_kept_when_they_are_harmless(server: Running):
    def identity(sent: str) -> str:
        return server.client.get("/livez", headers={"x-request-id": sent}).headers["x-request-id"]

    assert identity("abc-1.2_3") == "abc-1.2_3"
    assert identity("a b") != "a b"
    assert len(identity("x" * 65)) == 32


def test_unknown_routes_and_methods(server: Running):
    assert server.client.get("/v2/rerank").json()["message"] == "this route has no such method"
    answer = server.client.get("/nowhere")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found")
    untyped = server.client.post("/v2/rerank", content=b"{}", headers={"content-type": "text/plain"})
    assert untyped.status_code == 415


def test_before_the_models_are_loaded(start: Callable[..., Running]):
    server = start(loaded=False)
    assert server.client.get("/livez").status_code == 200
    for path in ("/readyz", "/health"):
        answer = server.client.get(path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    for path, body in BODIES.items():
        answer = server.client.post(path, json=body)
        assert answer.status_code == 503, path
        assert "loaded" in message_of(path, answer.json())


def test_an_unexpected_error_is_one_500_in_the_dialect(server: Running, monkeypatch: pytest.MonkeyPatch):
    async def broken(self: Engine, *args: object, **settings: object) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(Engine, "arerank", broken)
    answer = server.client.post("/v2/rerank", json=BODIES["/v2/rerank"])
    assert answer.status_code == 500
    assert set(json.loads(answer.text)) == {"error", "error_type", "message", "detail", "id"}
    assert "hunter2" not in answer.text


def test_a_request_is_a_span_where_the_sdk_is_installed(server: Running):
    export = pytest.importorskip("opentelemetry.sdk.trace.export", reason="OpenTelemetry's SDK is not installed")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    exporter = memory.InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    server.client.post("/v1/search", json={"query": "secret words"}, headers={"traceparent": parent})
    span = finished_span(exporter)
    assert "secret" not in " ".join(span.to_json() for span in exporter.get_finished_spans())
    assert span.name == "POST /v1/search"
    assert format(span.context.trace_id, "032x") in parent
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["tandem.total_ms"] > 0


def finished_span(exporter: Any) -> Any:
    """Our one span of a request just answered: it ends after the answer's last byte, so the client may be first."""

    def ours() -> list[Any]:  # FastAPI may make some of its own inside it
        return [span for span in exporter.get_finished_spans() if span.instrumentation_scope.name == "tandem"]

    until(lambda: bool(ours()))
    (span,) = ours()
    return span


def test_tei_counts_requests_of_the_models_by_its_own_labels(start: Callable[..., Running]):
    server = start()

    def counted() -> dict[str, float]:
        names = {"te_request_count": "method", "te_request_success": "method", "te_request_failure": "err"}
        samples = [sample for metric in server.service.metrics.registry.collect() for sample in metric.samples]
        return {
            f"{sample.name} {sample.labels[names[sample.name]]}": sample.value
            for sample in samples
            if sample.name in names
        }

    for path in ("/readyz", "/info", "/nowhere"):
        server.client.get(path)
    server.client.post("/tokenize", json={"inputs": "text"})
    assert counted() == {}
    for body in ({"inputs": "text"}, {"inputs": ["text"]}, {"inputs": []}):
        server.client.post("/embed", json=body)
    server.client.post("/predict", json={"inputs": ["query", "text"]})
    server.client.post("/v1/embeddings", json={"input": "text"})
    assert counted() == {
        "te_request_count single": 3,
        "te_request_success single": 3,
        "te_request_count batch": 2,
        "te_request_success batch": 1,
        "te_request_failure validation": 1,
    }
    assert server.service.metrics.registry.get_sample_value("te_request_duration_count") == 4


def test_the_second_listeners_bodies_are_bounded_too():
    service = Service(ServerSettings(max_body_bytes=1000))
    transport = httpx.ASGITransport(create_admin(service, lambda: None))

    async def ask() -> int:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return (await client.post("/admin/drain", content=b"[" * 2000)).status_code

    assert asyncio.run(ask()) == 413


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/v1/collections"])
def test_a_head_is_a_get_without_its_body(server: Running, path: str):
    whole, head = server.client.get(path), server.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert server.client.head("/v2/rerank").status_code == 405


@pytest.mark.parametrize(
    ("path", "fields", "reason"),
    [
        ("/v2/rerank", {"query": "q"}, "validation"),
        ("/v2/rerank", {"query": "q", "documents": []}, "empty"),
        ("/v1/search", {"query": "q", "collection": "other"}, "not_found"),
    ],
)
def test_refusals_are_counted_by_reason(server: Running, path: str, fields: dict, reason: str):
    def counted() -> float:
        line = f'tandem_rejected_total{{reason="{reason}"}} '
        text = server.client.get("/metrics").text
        return float(text.partition(line)[2].partition("\n")[0] or 0)

    before = counted()
    assert server.client.post(path, json=fields).status_code >= 400
    assert counted() == before + 1


def test_a_compatible_route_degrades_only_when_it_is_asked_to(server: Running):
    bodies = {"/rerank": "texts", "/v1/rerank": "documents", "/v2/rerank": "documents"}
    many = [f"passage {place} of a hundred" for place in range(100)]
    for path, name in bodies.items():
        whole = server.client.post(path, json={"query": QUERY, name: many})
        assert "x-degraded" not in whole.headers
        hurried = server.client.post(path, json={"query": QUERY, name: many}, headers={"x-budget-ms": "0.001"})
        assert hurried.status_code == 200
        assert "budget" in hurried.headers["x-degraded"]
        results = hurried.json() if path == "/rerank" else hurried.json()["results"]
        assert sorted(result["index"] for result in results) == list(range(100))  # none is dropped
    wrong = server.client.post("/v2/rerank", json=BODIES["/v2/rerank"], headers={"x-budget-ms": "soon"})
    assert wrong.status_code == 422


@pytest.mark.parametrize("value", ["0", "-5", "soon", "nan"])
def test_a_deadline_must_be_a_time(server: Running, value: str):
    answer = server.client.post("/v2/rerank", json=BODIES["/v2/rerank"], headers={"x-request-timeout-ms": value})
    assert answer.status_code == 422


def test_a_key_is_one_client_however_its_header_is_spelt():
    """Turns and admission are shared out by client: one key must not be several."""
    seen: list[str] = []

    async def app(scope: dict, receive: object, send: object) -> None:
        seen.append(scope["state"]["client"])

    auth = Auth(app, ServerSettings(api_keys=("k" * 32, "j" * 32)))
    basic = [b"Basic " + base64.b64encode(f"{user}:{'k' * 32}".encode()) for user in ("a", "b")]
    bearers = [b"Bearer " + b"k" * 32, b"bearer   " + b"k" * 32, b"BEARER " + b"k" * 32]
    for header in (*bearers, *basic, b"Bearer " + b"j" * 32):
        scope = {"type": "http", "path": "/rerank", "headers": [(b"authorization", header)], "client": ("::1", 1)}
        asyncio.run(auth(scope, None, None))  # type: ignore[arg-type]
    assert len(set(seen[:5])) == 1
    assert len(set(seen)) == 2


def test_metrics_beyond_loopback_answer_to_any_name():
    """Prometheus asks for an address that a listener on all of them cannot know."""
    for host, status in (("127.0.0.1", 403), ("0.0.0.0", 200)):
        service = Service(ServerSettings(admin_host=host, api_keys=("k" * 32,)))
        transport = httpx.ASGITransport(create_admin(service, lambda: None))

        async def ask(path: str, transport: httpx.ASGITransport = transport) -> int:
            async with httpx.AsyncClient(transport=transport, base_url="http://192.0.2.7:9000") as client:
                return (await client.get(path)).status_code

        assert asyncio.run(ask("/metrics")) == status
        assert asyncio.run(ask("/admin/status")) == 401
