"""Models by themselves in a server: beside a collection, or without any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi", reason="the [serve] extra is not installed")

from tandem.engine.build.indexing import index_corpus
from tandem.engine.errors import InputError
from tandem.engine.server.settings import ServerSettings

from .test_worker import KEYED, Front, write

TEXTS = ["The ladder is in the cellar.", "Nobody knows."]


@pytest.fixture
def collection(tmp_path: Path, tiny_bi_encoder: Path) -> Path:
    """Without a reranker."""
    index_corpus(write(tmp_path / "corpus.jsonl", 6, "attic"), tmp_path / "attic", encoder=tiny_bi_encoder)
    return tmp_path / "attic"


def post(front: Front, path: str, **body: Any) -> Any:
    answer = front.client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(front: Front, path: str, **body: Any) -> tuple[int, str]:
    answer = front.client.post(path, json=body)
    return answer.status_code, answer.text


@pytest.mark.parametrize("supervised", [True, False], ids=["worker", "in process"])
def test_a_server_of_models_alone(tiny_bi_encoder: Path, tiny_cross_encoder: Path, supervised: bool):
    models = {"small": tiny_bi_encoder, "ranker": tiny_cross_encoder}
    with Front({}, supervised=supervised, models=models) as front:
        assert front.ready()
        vectors = post(front, "/embed", inputs=TEXTS)
        assert len(vectors) == 2
        named = post(front, "/v1/embeddings", model="small", input=TEXTS)
        assert (named["model"], [row["embedding"] for row in named["data"]]) == ("small", vectors)
        ranked = post(front, "/rerank", query="the ladder", texts=TEXTS)
        other = post(front, "/v2/rerank", model="ranker", query="the ladder", documents=TEXTS)
        assert other["model"] == "ranker"
        assert [row["index"] for row in other["results"]] == [row["index"] for row in ranked]
        assert post(front, "/v1/score", model="ranker", text_1="a", text_2="b")["model"] == "ranker"
        nim = {"query": {"text": "q"}, "passages": [{"text": text} for text in TEXTS]}
        assert len(post(front, "/v1/retrieval/ranker/reranking", **nim)["rankings"]) == 2

        listed = front.client.get("/v1/models").json()["data"]
        assert [(each["id"], each["capabilities"]) for each in listed] == [("small", ["embed"]), ("ranker", ["rerank"])]
        assert front.client.get("/v1/models/ranker").json()["id"] == "ranker"
        assert front.client.get("/info").json()["model_id"] == "ranker"
        assert front.client.get("/v1/collections").json() == {"collections": []}
        assert len(post(front, "/tokenize", inputs=["a b"])) == 1
        assert front.metric('tandem_device_info{device="cpu"} 1.0')

        reloaded = httpx.post(f"{front.admin}/admin/reload", headers=KEYED, trust_env=False, timeout=60)
        assert reloaded.json() == {"swapped": True, "collections": {}}
        assert post(front, "/embed", inputs=TEXTS) == vectors
        assert refused(front, "/v1/search", query="q")[0] == 404
        assert refused(front, "/v1/documents", documents=[{"id": "a", "text": "b"}])[0] == 404
        status, said = refused(front, "/v1/embeddings", model="ranker", input=["a"])
        assert (status, "cross-encoder and gives no vectors" in said) == (422, True)
        status, said = refused(front, "/v2/rerank", model="small", query="q", documents=["a"])
        assert (status, "bi-encoder and gives no scores" in said) == (422, True)
        status, said = refused(front, "/v1/rerank", query="q", documents=[{"id": "attic1"}])
        assert (status, "not of a collection" in said) == (422, True)


def test_a_reranker_beside_a_collection_without_one(collection: Path, tiny_cross_encoder: Path):
    with Front(collection, models={"ranker": tiny_cross_encoder}) as front:
        assert post(front, "/v1/search", query="the ladder")["hits"]
        ranked = post(front, "/v1/rerank", model="whatever a client calls it", query="the ladder", documents=TEXTS)
        assert ranked["model"] == "ranker", "the first that can, where no such model is served"
        own = post(front, "/v1/embeddings", model="x", input=TEXTS)
        assert own["model"] == front.client.get("/v1/collections").json()["collections"][0]["encoder"]
        assert refused(front, "/v1/collections/attic/rerank", query="q", documents=["a"])[0] == 422
        assert refused(front, "/v1/search", query="q", collection="model/ranker")[0] == 404
        assert front.client.get("/v1/collections/attic").json()["documents"] == 6
        new = {"documents": [{"id": "new", "text": "The ladder is behind the door."}]}
        assert post(front, "/v1/documents", **new)["added"] == 1
        assert [each["id"] for each in front.client.get("/v1/models").json()["data"]] == [own["model"], "ranker"]


def test_models_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tandem.toml").write_text('[models]\nsmall = "a"\n')
    assert ServerSettings.load(tmp_path / "tandem.toml").models == {"small": Path("a")}
    monkeypatch.setenv("TANDEM_MODELS", "small=/a, ranker=/b=c")
    assert ServerSettings.load().models == {"small": Path("/a"), "ranker": Path("/b=c")}
    assert ServerSettings.load(models={"x": Path("y")}).models == {"x": Path("y")}
    monkeypatch.setenv("TANDEM_MODELS", "small")
    with pytest.raises(InputError, match="write NAME=FOLDER"):
        ServerSettings.load()
