"""gRPC: the same answers as over HTTP, with gRPC's own keys, deadlines, errors, health and reflection."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("grpc", reason="the [grpc] extra is not installed")
pytest.importorskip("grpc_health", reason="the [grpc] extra is not installed")
pytest.importorskip("grpc_reflection", reason="the [grpc] extra is not installed")
pytest.importorskip("fastapi", reason="the [serve] extra is not installed")

import grpc
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from tandem.engine.build.indexing import index_corpus
from tandem.engine.config import SearchOptions
from tandem.engine.errors import InputError
from tandem.engine.result import Hit, SearchResult, Timings
from tandem.engine.server import ServerSettings, Service
from tandem.engine.server.errors import STATUS
from tandem.engine.server.grpc_api import tandem_v1_pb2 as own
from tandem.engine.server.grpc_api import tei_v1_pb2 as tei
from tandem.engine.server.grpc_api.guard import CODES
from tandem.engine.server.grpc_api.server import GrpcServer

from .conftest import KEY, until
from .test_worker import Front, write

KEYED = (("authorization", f"Bearer {KEY}"),)
TEXTS = ["The ladder is in the cellar.", "Nobody knows."]
REPLIES = {
    "Search": own.SearchReply, "Rerank": own.RerankReply, "Embed": own.EmbedReply,
}  # fmt: skip


class Client:
    """Calls by their full names."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def call(self, name: str, message: Any, reply: Any, *, timeout: float | None = 60, metadata: Any = KEYED) -> Any:
        method = self.channel.unary_unary(
            name, request_serializer=type(message).SerializeToString, response_deserializer=reply.FromString
        )
        return method(message, timeout=timeout, metadata=metadata)

    def own(self, name: str, message: Any, **told: Any) -> Any:
        return self.call(f"/tandem.v1.Tandem/{name}", message, REPLIES[name], **told)

    def refused(self, name: str, message: Any, **told: Any) -> tuple[Any, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.own(name, message, **told)
        return caught.value.code(), caught.value.details()

    def health(self, service: str = "") -> int:
        message = health_pb2.HealthCheckRequest(service=service)
        told = self.call("/grpc.health.v1.Health/Check", message, health_pb2.HealthCheckResponse, metadata=())
        return told.status


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, tiny_cross_encoder: Path) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("grpc")
    corpus = write(folder / "corpus.jsonl", 20, "cellar")
    index_corpus(corpus, folder / "notes", encoder=tiny_bi_encoder, reranker=tiny_cross_encoder)
    with Front(folder / "notes", supervised=False, grpc_port=0, models={"ranker": tiny_cross_encoder}) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(front: Front) -> Iterator[Client]:
    server = front.do(GrpcServer.start(front.service))
    opened = Client(server.port)
    yield opened
    opened.channel.close()
    front.do(server.stop())


def test_a_search_is_what_it_is_over_http(front: Front, client: Client):
    options = {"top_k": 3, "budget_ms": None, "filters": {"room": "cellar"}, "candidates": 15}
    request = own.SearchRequest(query="the ladder")
    request.options.update(options)
    found = client.own("Search", request)
    expected = front.client.post("/v1/search", json={"query": "the ladder", **options}).json()
    assert [hit.id for hit in found.hits] == [hit["id"] for hit in expected["hits"]]
    for hit, other in zip(found.hits, expected["hits"], strict=True):
        assert (hit.rank, hit.document, hit.text, hit.title) == tuple(
            other[name] for name in ("rank", "document", "text", "title")
        )
        assert hit.score == pytest.approx(other["score"])
        assert dict(hit.metadata) == other["metadata"]
        assert hit.HasField("relevance") == (other["relevance"] is not None)
    assert (found.candidates, found.reranked, found.version) == tuple(
        expected[name] for name in ("candidates", "reranked", "version")
    )
    assert found.timings.total > 0
    request.without_text = True
    assert not any(hit.text for hit in client.own("Search", request).hits)
    request.collection = "notes"
    assert len(client.own("Search", request).hits) == 3


def test_no_field_of_an_answer_is_left_out():
    for message, declared in ((own.SearchReply, SearchResult), (own.Hit, Hit), (own.Timings, Timings)):
        assert {each.name for each in message.DESCRIPTOR.fields} == {each.name for each in fields(declared)}


def test_rerank_and_embed_are_what_they_are_over_http(front: Front, client: Client):
    ranked = client.own("Rerank", own.RerankRequest(query="the ladder", texts=TEXTS))
    expected = front.client.post("/v1/rerank", json={"query": "the ladder", "documents": TEXTS, "raw_scores": True})
    results = expected.json()["results"]
    assert [passage.index for passage in ranked.passages] == [result["index"] for result in results]
    assert [passage.score for passage in ranked.passages] == pytest.approx([r["relevance_score"] for r in results])
    named = client.own("Rerank", own.RerankRequest(query="the ladder", texts=TEXTS, model="ranker"))
    assert [each.score for each in named.passages] == [each.score for each in ranked.passages]
    stored = client.own("Rerank", own.RerankRequest(query="the ladder", ids=["cellar1", "cellar2"]))
    assert len(stored.passages) == 2

    vectors = client.own("Embed", own.EmbedRequest(texts=TEXTS, prompt_name="query"))
    body = {"input": TEXTS, "prompt_name": "query"}
    told = front.client.post("/v1/embeddings", json=body).json()
    for vector, row in zip(vectors.vectors, told["data"], strict=True):
        assert list(vector.values) == pytest.approx(row["embedding"], abs=1e-6)
    assert vectors.tokens == told["usage"]["total_tokens"]


def test_teis_clients_are_answered(front: Front, client: Client):
    info = client.call("/tei.v1.Info/Info", tei.InfoRequest(), tei.InfoResponse)
    assert info.model_id == front.client.get("/info").json()["model_id"]
    assert info.model_type == tei.MODEL_TYPE_RERANKER
    one = client.call("/tei.v1.Embed/Embed", tei.EmbedRequest(inputs=TEXTS[0], truncate=True), tei.EmbedResponse)
    expected = front.client.post("/embed", json={"inputs": TEXTS}).json()
    assert list(one.embeddings) == pytest.approx(expected[0], abs=1e-6)
    assert one.metadata.compute_tokens > 0
    asked = tei.RerankRequest(query="the ladder", texts=TEXTS, return_text=True)
    ranked = client.call("/tei.v1.Rerank/Rerank", asked, tei.RerankResponse)
    others = front.client.post("/rerank", json={"query": "the ladder", "texts": TEXTS, "return_text": True}).json()
    assert [(rank.index, rank.text) for rank in ranked.ranks] == [(each["index"], each["text"]) for each in others]
    assert [rank.score for rank in ranked.ranks] == pytest.approx([each["score"] for each in others], abs=1e-6)

    stream = client.channel.stream_stream(
        "/tei.v1.Embed/EmbedStream", request_serializer=tei.EmbedRequest.SerializeToString,
        response_deserializer=tei.EmbedResponse.FromString,
    )  # fmt: skip
    found = list(stream((tei.EmbedRequest(inputs=text) for text in TEXTS), metadata=KEYED, timeout=60))
    assert [list(each.embeddings) for each in found] == [pytest.approx(row, abs=1e-6) for row in expected]
    together = client.channel.stream_unary(
        "/tei.v1.Rerank/RerankStream", request_serializer=tei.RerankStreamRequest.SerializeToString,
        response_deserializer=tei.RerankResponse.FromString,
    )  # fmt: skip
    parts = (tei.RerankStreamRequest(query="the ladder", text=text, return_text=True) for text in TEXTS)
    assert together(parts, metadata=KEYED, timeout=60).ranks == ranked.ranks


def test_what_is_wrong_is_said_by_gRPCs_codes(client: Client):
    search = own.SearchRequest(query="q")
    assert client.refused("Search", search, metadata=())[0] == grpc.StatusCode.UNAUTHENTICATED
    wrong = (("authorization", "Bearer wrong"),)
    assert client.refused("Search", search, metadata=wrong)[0] == grpc.StatusCode.UNAUTHENTICATED
    code, said = client.refused("Search", own.SearchRequest(query="q", collection="attic"))
    assert (code, "no such collection" in said) == (grpc.StatusCode.NOT_FOUND, True)
    misspelt = own.SearchRequest(query="q")
    misspelt.options.update({"topk": 3})
    code, said = client.refused("Search", misspelt)
    assert (code, "'topk' is unknown" in said) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    large = own.SearchRequest(query="q")
    large.options.update({"filters": {"room": 2.0**64}, "budget_ms": None})
    assert list(client.own("Search", large).hits) == [], "a number of more than 64 bits is a number"
    for budget in (-1.0, 0.0, float("nan"), float("inf")):
        asked = own.RerankRequest(query="q", texts=["a"], budget_ms=budget)
        assert client.refused("Rerank", asked)[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert client.refused("Embed", own.EmbedRequest())[0] == grpc.StatusCode.INVALID_ARGUMENT
    long = own.SearchRequest(query="q")
    long.options.update({"x" * 20_000: 1})
    assert client.refused("Search", long)[0] == grpc.StatusCode.INVALID_ARGUMENT
    inner = own.SearchRequest(query="q", collection="model/ranker")
    assert client.refused("Search", inner)[0] == grpc.StatusCode.NOT_FOUND
    endless = own.SearchRequest(query="q")
    endless.options.update({"budget_ms": float("inf")})
    assert client.refused("Search", endless)[0] == grpc.StatusCode.INVALID_ARGUMENT
    out_of_range = own.SearchRequest(query="q")
    out_of_range.options.update({"top_k": 0})
    assert client.refused("Search", out_of_range)[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert client.refused("Search", own.SearchRequest(query=" "))[0] == grpc.StatusCode.INVALID_ARGUMENT
    neither = own.RerankRequest(query="q")
    assert client.refused("Rerank", neither)[0] == grpc.StatusCode.INVALID_ARGUMENT
    code, said = client.refused("Embed", own.EmbedRequest(texts=["a"], model="ranker"))
    assert (code, "gives no vectors" in said) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_a_stream_without_a_key_is_ended_before_it_is_read(client: Client):
    stream = client.channel.stream_stream(
        "/tei.v1.Embed/EmbedStream", request_serializer=tei.EmbedRequest.SerializeToString,
        response_deserializer=tei.EmbedResponse.FromString,
    )  # fmt: skip
    silent = threading.Event()

    def nothing() -> Iterator[tei.EmbedRequest]:
        silent.wait(30)
        yield from ()

    with pytest.raises(grpc.RpcError) as caught:
        next(stream(nothing(), timeout=20))
    silent.set()
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_stream_has_no_more_bytes_than_a_body(client: Client):
    together = client.channel.stream_unary(
        "/tei.v1.Rerank/RerankStream", request_serializer=tei.RerankStreamRequest.SerializeToString,
        response_deserializer=tei.RerankResponse.FromString,
    )  # fmt: skip
    parts = (tei.RerankStreamRequest(query="q", text="a" * 3_000_000) for _ in range(4))
    with pytest.raises(grpc.RpcError) as caught:
        together(parts, metadata=KEYED, timeout=60)
    assert (caught.value.code(), "exceed" in caught.value.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)


def test_every_kind_of_failure_has_a_code():
    assert set(CODES) == set(STATUS)


def test_a_deadline_ends_the_work_and_a_client_that_leaves_does(
    front: Front, client: Client, monkeypatch: pytest.MonkeyPatch
):
    ended: list[str] = []

    async def never(*_: Any, **__: Any) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    monkeypatch.setattr(front.service, "rerank", never)
    asked = own.RerankRequest(query="q", texts=["a"])
    begun = time.monotonic()
    assert client.refused("Rerank", asked, timeout=0.3)[0] == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - begun < 20
    until(lambda: ended == ["cancelled"])
    method = client.channel.unary_unary(
        "/tandem.v1.Tandem/Rerank", request_serializer=own.RerankRequest.SerializeToString,
        response_deserializer=own.RerankReply.FromString,
    )  # fmt: skip
    waiting = method.future(asked, metadata=KEYED, timeout=60)
    until(lambda: len(front.service.in_flight) == 1)
    waiting.cancel()
    until(lambda: ended == ["cancelled"] * 2 and not front.service.in_flight)


def test_a_drain_ends_what_is_in_flight(front: Front, client: Client, monkeypatch: pytest.MonkeyPatch):
    async def never(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(front.service, "rerank", never)
    method = client.channel.unary_unary(
        "/tandem.v1.Tandem/Rerank", request_serializer=own.RerankRequest.SerializeToString,
        response_deserializer=own.RerankReply.FromString,
    )  # fmt: skip
    waiting = method.future(own.RerankRequest(query="q", texts=["a"]), metadata=KEYED, timeout=60)
    until(lambda: len(front.service.in_flight) == 1)
    front.loop.call_soon_threadsafe(front.service.abort)
    assert waiting.exception(timeout=30).code() == grpc.StatusCode.UNAVAILABLE


def test_health_is_readiness_and_needs_no_key(front: Front, client: Client, monkeypatch: pytest.MonkeyPatch):
    states = health_pb2.HealthCheckResponse
    assert client.health() == client.health("tandem.v1.Tandem") == client.health("tei.v1.Embed") == states.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        client.health("nobody")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    watch = client.channel.unary_stream(
        "/grpc.health.v1.Health/Watch", request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=states.FromString,
    )  # fmt: skip
    told = watch(health_pb2.HealthCheckRequest(), timeout=60)
    assert next(told).status == states.SERVING
    monkeypatch.setattr(front.service, "draining", True)
    assert next(told).status == states.NOT_SERVING
    assert client.health() == states.NOT_SERVING
    told.cancel()


def test_its_services_can_be_asked_for(client: Client):
    reflect = client.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="tandem.v1.Tandem"),
    ]
    listed, described = reflect(iter(asked), timeout=60)
    names = {service.name for service in listed.list_services_response.service}
    assert {"tandem.v1.Tandem", "tei.v1.Embed", "tei.v1.Rerank", "grpc.health.v1.Health"} <= names
    file = descriptor_pb2.FileDescriptorProto.FromString(described.file_descriptor_response.file_descriptor_proto[0])
    assert [method.name for method in file.service[0].method] == ["Search", "Rerank", "Embed"]


def test_calls_are_counted(front: Front, client: Client):
    client.own("Embed", own.EmbedRequest(texts=["a"]))
    client.refused("Embed", own.EmbedRequest(texts=["a"], model="ranker"))
    assert front.metric('tandem_requests_total{route="/tandem.v1.Tandem/Embed",status="200"}')
    assert front.metric('tandem_requests_total{route="/tandem.v1.Tandem/Embed",status="422"}')


def test_a_port_that_is_taken_is_told(front: Front, client: Client):
    other = Service(ServerSettings(grpc_port=client.port))

    async def start() -> None:
        await GrpcServer.start(other)

    with pytest.raises(InputError, match="grpc_port"):
        asyncio.run(start())


def test_the_modules_are_made_of_the_protos(tmp_path: Path):
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    folder = Path(own.__file__).parent
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([*command, "tandem_v1.proto", "tei_v1.proto"], cwd=folder, check=True)
    for file in tmp_path.iterdir():
        body = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        kept = [line for line in (folder / file.name).read_text().splitlines() if not line.startswith("#")]
        numbers = {line for line in (*body, *kept) if line.strip().rstrip(",").isdigit()}  # protobuf's own version
        assert [line for line in body if line not in numbers] == [line for line in kept if line not in numbers], (
            f"{file.name} is older than its .proto: run `make protos`"
        )


def test_options_of_a_search_are_those_of_http():
    request = own.SearchRequest()
    request.options.update(dict.fromkeys(SearchOptions.model_fields))
    assert set(request.options) == set(SearchOptions.model_fields)
