"""Several collections in one server: each answers by itself, and they share their models."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi", reason="the [serve] extra is not installed")

from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus
from tandem.engine.collection import Collection, read_pointer
from tandem.engine.errors import CollectionError, EngineClosed, InputError
from tandem.engine.server.run import Serving, found_in
from tandem.engine.server.settings import ServerSettings

from .conftest import until
from .test_worker import KEYED, QUIET, Front, write


@pytest.fixture
def folder(tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path) -> Path:
    """A folder with the collections attic and hall."""
    for room, rows in (("attic", 6), ("hall", 9)):
        corpus = write(tmp_path / f"{room}.jsonl", rows, room)
        index_corpus(corpus, tmp_path / "all" / room, encoder=tiny_bi_encoder, reranker=tiny_cross_encoder)
    return tmp_path / "all"


def ids(front: Front, path: str, **asked: Any) -> set[str]:
    body = {"query": "the ladder", "budget_ms": None, "top_k": 50, "candidates": 50, **asked}
    answer = front.client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return {hit["id"] for hit in answer.json()["hits"]}


def admin(front: Front, method: str, path: str = "", **body: Any) -> httpx.Response:
    url = f"{front.admin}/admin/collections{path}"
    return httpx.request(method, url, headers=KEYED, json=body or None, trust_env=False, timeout=60)


def damage(root: Path) -> None:
    vectors = next((root / "versions" / read_pointer(root).version).rglob("vectors.npy"))
    vectors.write_bytes(vectors.read_bytes()[:-1] + b"x")


def rooms(front: Front) -> dict[str, int]:
    served = front.client.get("/v1/collections").json()["collections"]
    return {each["name"]: each["documents"] for each in served}


@pytest.mark.parametrize("supervised", [True, False], ids=["worker", "in process"])
def test_each_answers_by_itself(folder: Path, supervised: bool) -> None:
    attic, hall = {f"attic{n}" for n in range(6)}, {f"hall{n}" for n in range(9)}
    with Front(found_in(folder), supervised=supervised) as front:
        assert rooms(front) == {"attic": 6, "hall": 9}
        assert ids(front, "/v1/search") == attic
        assert ids(front, "/v1/search", collection="hall") == ids(front, "/v1/collections/hall/search") == hall
        one = front.client.get("/v1/collections/hall").json()
        assert (one["name"], one["documents"]) == ("hall", 9)
        new = {"documents": [{"id": "new", "text": "The ladder in the hall."}]}
        assert front.client.post("/v1/collections/hall/documents", json=new).json()["documents"] == 10
        assert ids(front, "/v1/collections/hall/search") == hall | {"new"}
        assert ids(front, "/v1/search") == attic, "the other is as it was"
        stored = {"query": "the ladder", "documents": [{"id": "hall1"}, {"id": "hall2"}]}
        assert len(front.client.post("/v1/collections/hall/rerank", json=stored).json()["results"]) == 2
        assert front.client.post("/v1/rerank", json=stored).status_code == 422, "those ids are of another collection"
        same = front.client.post("/v1/collections/hall/embeddings", json={"input": ["a"]}).json()
        assert same["data"] == front.client.post("/v1/embeddings", json={"input": ["a"]}).json()["data"]


def test_a_name_that_is_not_served_is_told(folder: Path) -> None:
    with Front(found_in(folder), supervised=False) as front:
        for path in ("/v1/collections/cellar/search", "/v1/collections/cellar/documents"):
            body = {"query": "q"} if path.endswith("search") else {"documents": [{"id": "a", "text": "b"}]}
            answer = front.client.post(path, json=body)
            assert answer.status_code == 404
            assert "GET /v1/collections" in answer.json()["error"]["message"]
        answer = front.client.post("/v1/collections/hall/search", json={"query": "q", "collection": "attic"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, "collection")


def test_collections_are_made_served_and_dropped_while_it_serves(folder: Path) -> None:
    with Front(found_in(folder), collections_folder=folder) as front:
        process = front.process()
        made = admin(front, "POST", name="cellar", like="hall")
        assert (made.status_code, made.json()["documents"]) == (201, 0), made.text
        assert ids(front, "/v1/collections/cellar/search") == set()
        new = {"documents": [{"id": "c", "text": "The ladder in the cellar.", "metadata": {"year": 1999}}]}
        assert front.client.post("/v1/collections/cellar/documents", json=new).json()["added"] == 1
        assert ids(front, "/v1/collections/cellar/search", filters={"year": 1999}) == {"c"}
        assert admin(front, "POST", name="cellar", like="hall").status_code == 409

        shutil.copytree(folder / "cellar", folder / "copy")
        assert admin(front, "POST", name="copy").json()["documents"] == 1
        assert ids(front, "/v1/collections/copy/search") == {"c"}
        assert front.process() == process, "no worker was started for it"

        assert admin(front, "DELETE", "/copy").status_code == 200
        assert front.client.post("/v1/collections/copy/search", json={"query": "q"}).status_code == 404
        assert len(Collection.open(folder / "copy")) == 1, "its files stay"
        assert admin(front, "DELETE", "/cellar?drop=true").status_code == 200
        assert not (folder / "cellar").exists()
        assert rooms(front) == {"attic": 6, "hall": 9}
        assert admin(front, "DELETE", "/cellar").status_code == 409
        assert front.metric('tandem_collection_info{collection="hall"')
        assert not front.metric('tandem_collection_info{collection="cellar"')


def test_what_is_made_and_cannot_be_served_is_removed_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Front(found_in(folder), supervised=False, collections_folder=folder) as front:
        with monkeypatch.context() as patch:

            def refuse(*_: object, **__: object) -> None:
                raise CollectionError("no memory for one more")

            patch.setattr(Engine, "open", refuse)
            refused = admin(front, "POST", name="cellar", like="hall")
            assert (refused.status_code, "no memory" in refused.text) == (409, True)
        assert not (folder / "cellar").exists()
        assert rooms(front) == {"attic": 6, "hall": 9}
        (folder / "cellar").mkdir()
        (folder / "cellar" / "writer.lock").touch()  # a creation that was ended
        assert admin(front, "POST", name="cellar", like="hall").status_code == 201


@pytest.mark.parametrize("name", ["", "..", "../x", ".hidden", "a/b", "x" * 200])
def test_a_name_that_is_no_folders_is_refused(folder: Path, name: str) -> None:
    with Front(found_in(folder), supervised=False, collections_folder=folder) as front:
        assert admin(front, "POST", name=name, like="hall").status_code == 422
        assert sorted(path.name for path in folder.iterdir()) == ["attic", "hall"]


def test_the_first_that_is_named_answers_who_names_none(folder: Path) -> None:
    settings = ServerSettings(**QUIET, collections_folder=folder)
    named = {"hall": folder / "hall", "other": folder / "attic"}
    assert Serving(named, settings).service.host.catalogue.names == ["hall", "other", "attic"]
    with pytest.raises(InputError, match="no folder"):
        Serving({}, ServerSettings(**QUIET, collections_folder=folder / "nothing"))


def test_what_is_served_twice_or_lies_elsewhere_is_not_dropped(folder: Path) -> None:
    named = {"attic": folder / "attic", "other": folder / "attic", "hall": folder / "hall"}
    with Front(named, supervised=False, collections_folder=folder) as front:
        answer = admin(front, "DELETE", "/attic?drop=true")
        assert (answer.status_code, "served as other too" in answer.text) == (403, True)
        assert admin(front, "DELETE", "/other?drop=true").status_code == 403
        assert set(rooms(front)) == set(named), "nothing was unloaded"
        assert (folder / "attic" / "CURRENT").exists()


def test_hidden_folders_are_no_collections(folder: Path) -> None:
    (folder / "hall").rename(folder / ".hall.dropped")
    assert list(found_in(folder)) == ["attic"]


def test_one_that_was_left_out_is_served_again_once_it_can_be_opened(folder: Path) -> None:
    with Front(found_in(folder), supervised=False) as front:
        front.host.current.facts.pop("hall")
        assert set(rooms(front)) == {"attic"}
        assert front.do(front.service.swaps.swap())
        assert set(rooms(front)) == {"attic", "hall"}


def test_without_a_folder_none_is_made(folder: Path) -> None:
    with Front(found_in(folder), supervised=False) as front:
        answer = admin(front, "POST", name="cellar", like="hall")
        assert (answer.status_code, "collections_folder" in answer.text) == (403, True)


def test_a_damaged_one_is_refused_beside_the_others(folder: Path) -> None:
    with Front({"attic": folder / "attic"}, collections_folder=folder) as front:
        damage(folder / "hall")
        answer = admin(front, "POST", name="hall")
        assert (answer.status_code, "vectors.npy" in answer.text) == (409, True), answer.text
        assert rooms(front) == {"attic": 6}
        assert ids(front, "/v1/search")


def test_when_the_worker_is_started_again_all_are_there(folder: Path) -> None:
    with Front(found_in(folder), collections_folder=folder) as front:
        admin(front, "POST", name="cellar", like="hall")
        front.do(_kill(front))
        until(lambda: front.ready() and set(rooms(front)) == {"attic", "hall", "cellar"})
        # One that is damaged by then is left out, and the others are served.
        damage(folder / "hall")
        front.do(_kill(front))
        until(lambda: front.ready() and set(rooms(front)) == {"attic", "cellar"})
        answer = front.client.post("/v1/collections/hall/search", json={"query": "q"})
        assert (answer.status_code, "cannot be opened" in answer.text) == (503, True)


async def _kill(front: Front) -> None:
    front.host.current.kill("a test")


def test_engines_share_models_and_the_device(folder: Path) -> None:
    with Engine.open(folder / "attic", **QUIET) as attic:
        alone = attic.search("the ladder", budget_ms=None)
        hall = Engine.open(folder / "hall", pool=attic.pool)
        assert hall.encoder is attic.encoder
        assert hall.reranker is attic.reranker
        assert hall.batcher is attic.batcher
        assert {hit.id for hit in hall.search("the ladder", budget_ms=None, top_k=50).hits} == {
            f"hall{n}" for n in range(9)
        }
        other = Engine.open(folder / "hall", pool=attic.pool, reranker_precision="int8", recall_weight=0.0)
        assert other.encoder is attic.encoder
        assert other.reranker is not attic.reranker
        other.close()
        hall.close()
        for asked in (lambda: hall.search("the ladder"), lambda: hall.delete(["hall1"]), lambda: hall.add([])):
            with pytest.raises(EngineClosed):
                asked()
        again = attic.search("the ladder", budget_ms=None)
        assert [(hit.id, hit.score) for hit in again.hits] == [(hit.id, hit.score) for hit in alone.hits]
    with pytest.raises(EngineClosed):
        attic.search("the ladder")


def test_engines_of_a_pool_have_its_device(folder: Path) -> None:
    with Engine.open(folder / "attic", **QUIET) as attic, pytest.raises(InputError, match="share threads"):
        Engine.open(folder / "hall", pool=attic.pool, threads=7)


def test_an_engine_that_cannot_be_opened_leaves_the_pool_as_it_is(folder: Path) -> None:
    with Engine.open(folder / "attic", **QUIET) as attic:
        with pytest.raises(CollectionError):
            Engine.open(folder / "nothing", pool=attic.pool)
        assert attic.search("the ladder", budget_ms=None).hits
