"""Documents are added and deleted over HTTP, and searched when the answer comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the [serve] extra is not installed")

from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus
from tandem.engine.collection import Collection, read_pointer
from tandem.engine.collection.merge_policy import MANY

from .conftest import until
from .test_worker import Front, write


@pytest.fixture
def folder(tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path) -> Path:
    out = tmp_path / "docs"
    index_corpus(
        write(tmp_path / "corpus.jsonl", 12, "attic"), out, encoder=tiny_bi_encoder, reranker=tiny_cross_encoder
    )
    return out


def found(front: Front, **asked: Any) -> set[str]:
    body = {"query": "the ladder", "budget_ms": None, "top_k": 50, "candidates": 50, **asked}
    answer = front.client.post("/v1/search", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["version"] == front.client.get("/v1/collections").json()["collections"][0]["version"]
    return {hit["id"] for hit in answer.json()["hits"]}


def send(front: Front, method: str, **body: Any) -> Any:
    return front.client.request(method, "/v1/documents", json=body)


@pytest.mark.parametrize("supervised", [True, False], ids=["worker", "in process"])
def test_documents_come_and_go(folder: Path, supervised: bool) -> None:
    with Front(folder, supervised=supervised) as front:
        process = front.process()
        before = found(front)
        new = [{"id": "new", "text": "The kettle.", "metadata": {"room": "hall", "year": 1999}}]
        answer = send(front, "POST", documents=new)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["added"], answer.json()["documents"]) == (1, 13)
        assert found(front) == before | {"new"}
        assert found(front, filters={"year": {"$lt": 2000}}) == {"new"}
        # Sent again, nothing changes.
        again = send(front, "POST", documents=new).json()
        assert (again["unchanged"], again["version"]) == (1, answer.json()["version"])
        assert send(front, "DELETE", ids=[*list(before)[:2], "nobody"]).json()["deleted"] == 2
        assert send(front, "DELETE", filters={"room": "hall"}).json()["deleted"] == 1
        assert len(found(front)) == 10
        assert front.process() == process, "no model is loaded again"
        assert front.metric('tandem_swaps_total{outcome="done"} 3.0')
    with Engine.open(folder, device="cpu", warm_up=False) as engine:
        assert engine.collection.version == read_pointer(folder).version
        assert len(engine.collection) == 10


@pytest.mark.parametrize(
    ("method", "body", "said"),
    [
        ("POST", {"documents": []}, "give at least one"),
        ("POST", {}, "documents: Field required"),
        ("POST", {"documents": [{"id": "a"}]}, "documents.0.text"),
        ("POST", {"documents": [{"id": "a", "text": "b", "year": 3}]}, "documents.0.year"),
        ("POST", {"documents": [{"id": "a", "text": "b"}, {"id": "a", "text": "c"}]}, "document 1: the id 'a' occurs"),
        ("POST", {"documents": [{"id": "a", "text": "b"}] * 9}, "9 documents exceed the limit of 8"),
        ("DELETE", {}, "give ids or filters"),
        ("DELETE", {"id": ["a"]}, "did you mean ids"),
        ("DELETE", {"filters": {"a": {"$near": 1}}}, "filters"),
    ],
)
def test_bad_requests_change_nothing(folder: Path, method: str, body: dict[str, Any], said: str) -> None:
    with Front(folder, supervised=False, max_documents=8) as front:
        answer = send(front, method, **body)
        assert answer.status_code == 422
        assert said in answer.text
        assert len(found(front)) == 12


def test_a_read_only_server_changes_nothing(folder: Path) -> None:
    with Front(folder, supervised=False, read_only=True) as front:
        for answer in (send(front, "POST", documents=[{"id": "a", "text": "b"}]), send(front, "DELETE", ids=["d0"])):
            assert answer.status_code == 403
            assert "read-only" in answer.text


def test_merges_happen_beside_the_server(folder: Path) -> None:
    with Front(folder, supervised=False) as front:
        for number in range(8):
            send(front, "POST", documents=[{"id": f"new {number}", "text": f"The kettle {number}."}])
        until(lambda: len(Collection.open(folder).segments) < MANY)
        front.do(front.service.swaps.swap())
        until(lambda: len(front.host.current.engines["docs"].collection.segments) < MANY)
        assert len(found(front)) == 20
