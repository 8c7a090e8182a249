"""The worker process and its successors: killed, stuck, poisoned, swapped, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from tandem.engine import CollectionError, Engine
from tandem.engine.build.indexing import index_corpus
from tandem.engine.build.retokenize import retokenize
from tandem.engine.collection import read_pointer
from tandem.engine.scoring.effort import QUICK, REREAD
from tandem.engine.server import ServerSettings, Service, create_app
from tandem.engine.server.app import create_admin
from tandem.engine.server.backend import Local
from tandem.engine.server.engines import Wanted
from tandem.engine.server.metrics import Metrics
from tandem.engine.server.supervisor import Host
from tandem.engine.server.worker_client import Remote

from .conftest import KEY, until

KEYED = {"authorization": f"Bearer {KEY}"}

FAULTY = (sys.executable, str(Path(__file__).with_name("faulty.py")))
QUIET = {"device": "cpu", "warm_up": False, "reranker_precision": "fp32", "threads": 1}


def pair(*texts: str) -> dict[str, Any]:
    return {"query": "q", "texts": list(texts)}


class Front:
    """An HTTP process in a thread of this one, with workers of its own."""

    def __init__(self, collections: Path | dict[str, Path], *, supervised: bool = True, **settings: Any) -> None:
        self.settings = ServerSettings(api_keys=(KEY,), **{**QUIET, **settings})
        metrics = Metrics()
        if isinstance(collections, Path):
            collections = {collections.name: collections}

        async def opener(worker, collections):
            if supervised:
                return await Remote.start(collections, self.settings, metrics.batch, command=FAULTY)
            return await asyncio.to_thread(Local.open, collections, self.settings.engine_settings(), metrics.batch)

        workers = self.settings.workers or 1
        self.host = Host(
            collections, opener, metrics, close_after=5.0, needed=collections, workers=workers,
            models=self.settings.models,
        )  # fmt: skip
        self.service = Service(self.settings, host=self.host)
        self.loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: self.loop.run_until_complete(self._serve()))

    async def _serve(self) -> None:
        apps = (create_app(self.service), create_admin(self.service, lambda: None))
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in apps]
        self.url, self.admin = (f"http://127.0.0.1:{bound.getsockname()[1]}" for bound in sockets)
        options = {"lifespan": "off", "ws": "none", "http": "h11", "log_config": None, "timeout_graceful_shutdown": 5}
        self._servers = [uvicorn.Server(uvicorn.Config(app, **options)) for app in apps]
        for server in self._servers:
            server.install_signal_handlers = lambda: None
        serving = [
            asyncio.create_task(server.serve(sockets=[bound]))
            for server, bound in zip(self._servers, sockets, strict=True)
        ]
        try:
            await self.service.swaps.open()
            self._ready.set()
            await asyncio.gather(*serving)
        finally:
            await self.service.merges.close()
            await self.host.close()
            for bound in sockets:
                bound.close()

    def __enter__(self) -> Front:
        self._thread.start()
        assert self._ready.wait(120)
        self.client = httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60, trust_env=False
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        for server in self._servers:
            server.should_exit = True
        self._thread.join(60)
        self.loop.close()

    def do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def status(self) -> dict[str, Any]:
        return httpx.get(f"{self.admin}/admin/status", headers=KEYED, trust_env=False).json()

    def process(self, worker: int = 0) -> int | None:
        return self.status()["workers"][worker]["process"]

    def ready(self) -> bool:
        return self.client.get("/readyz").status_code == 200

    def metric(self, line: str) -> bool:
        return f"\n{line}" in httpx.get(f"{self.admin}/metrics", trust_env=False).text


def write(path: Path, rows: int, room: str) -> Path:
    texts = [
        {"_id": f"{room}{i}", "text": f"The ladder number {i} is in the {room}.", "room": room} for i in range(rows)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in texts))
    return path


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, exiting_cross_encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("worked")
    corpus = write(folder / "corpus.jsonl", 40, "cellar")
    index_corpus(corpus, folder / "c", encoder=tiny_bi_encoder, reranker=exiting_cross_encoder)
    return folder / "c"


@pytest.fixture(scope="module")
def front(collection: Path) -> Iterator[Front]:
    # No back-off: these tests end more workers in a minute than a year does.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tandem.engine.server.seat.BACK_OFF", (0.0,))
        with Front(collection, watchdog_ms=5000, timeout_ms=60_000) as opened:
            yield opened


@contextmanager
def load(front: Front, clients: int = 6) -> Iterator[list[int]]:
    """Clients that ask without pause; the statuses they get."""
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            statuses.append(front.client.post("/rerank", json=pair("slow one", "two")).status_code)
            time.sleep(0.01)

    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask) for _ in range(clients)]
        until(lambda: len(statuses) >= clients)
        yield statuses
        stop.set()
        for each in asking:
            each.result(60)


def test_the_worker_answers_what_the_engine_answers(front: Front, collection: Path):
    with Engine.open(collection, **QUIET) as engine:
        expected = engine.search("the ladder", budget_ms=None, filters={"room": "cellar"})
        found = front.client.post(
            "/v1/search", json={"query": "the ladder", "budget_ms": None, "filters": {"room": "cellar"}}
        ).json()
        assert [(hit["id"], hit["score"]) for hit in found["hits"]] == [
            (hit.id, pytest.approx(hit.score, abs=1e-5)) for hit in expected.hits
        ]
        assert (found["version"], found["reranked"]) == (engine.collection.version, expected.reranked)
        quick = {"query": "the ladder", "effort": "quick", "budget_ms": None}
        found = front.client.post("/v1/search", json=quick).json()
        assert (found["reranked"], found["reread"], found["degraded"]) == (QUICK, REREAD, None)
        expected = engine.search("the ladder", effort="quick", budget_ms=None)
        assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in expected.hits]
        vectors = front.client.post("/embed", json={"inputs": ["a", "b"]}).json()
        assert vectors == pytest.approx(engine.embed(["a", "b"]), abs=1e-6)
    tokens = front.client.post("/tokenize", json={"inputs": "the ladder"}).json()[0]
    assert front.client.post("/decode", json={"ids": [token["id"] for token in tokens]}).json() == ["the ladder"]
    stored = front.client.post(
        "/v1/rerank", json={"query": "q", "documents": [{"id": "cellar3"}], "return_documents": True}
    )
    assert stored.json()["results"][0]["document"]["text"] == "The ladder number 3 is in the cellar."
    wrong = front.client.post("/v1/rerank", json={"query": "q", "documents": [{"id": "nowhere"}]})
    assert wrong.status_code == 422
    assert str(collection) not in wrong.text


@pytest.mark.parametrize("word", ["raise", "nan"])
def test_one_bad_item_among_64_fails_alone_and_the_worker_lives(front: Front, word: str):
    before = front.status()
    bodies = [pair(f"passage {place}", "other words") for place in range(64)]
    bodies[37]["texts"][1] = word
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda body: front.client.post("/rerank", json=body), bodies))
    assert [place for place, answer in enumerate(answers) if answer.status_code != 200] == [37]
    assert answers[37].status_code == 424
    assert front.process() == before["workers"][0]["process"]


def test_killed_under_load_it_comes_back_and_nobody_hangs(front: Front):
    before = front.status()
    unready = []
    with load(front) as statuses:
        count = len(statuses)
        os.kill(before["workers"][0]["process"], signal.SIGKILL)
        until(lambda: unready.append(front.ready()) or not unready[-1] or front.host.restarts > before["restarts"])
        until(lambda: front.ready() and front.process() not in (None, before["workers"][0]["process"]))
        until(lambda: len(statuses) > count + 20)
    assert set(statuses) <= {200, 503}
    assert statuses[-1] == 200
    assert front.status()["restarts"] == before["restarts"] + 1
    assert front.metric(f'tandem_worker_restarts_total{{worker="0"}} {before["restarts"] + 1}.0')
    assert not front.service.in_flight
    assert front.service.admission.requests == 0


def test_what_was_in_flight_is_asked_once_more(front: Front, monkeypatch: pytest.MonkeyPatch):
    # On a busy machine a worker opens for longer than clients wait by default.
    monkeypatch.setattr("tandem.engine.server.supervisor.PATIENCE", 60.0)
    before = front.status()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(front.client.post, "/rerank", json=pair(*(f"slow {i}" for i in range(200))))
        until(lambda: front.status()["in_flight"] == 1 and front.status()["load"]["jobs"] > 0)
        os.kill(before["workers"][0]["process"], signal.SIGKILL)
        answer = slow.result(90)
    assert answer.status_code == 200
    assert len(answer.json()) == 200


def test_a_request_that_kills_every_worker_is_found_out_and_refused(front: Front):
    told: list[tuple[int, str]] = []
    while not told or told[-1][0] == 503:
        until(front.ready)
        answer = front.client.post("/rerank", json=pair("kill it"))
        told.append((answer.status_code, answer.json()["error_type"]))
        assert answer.status_code != 503 or int(answer.headers["retry-after"]) >= 1
        assert len(told) < 5, "two, and one more wherever the next worker took too long to open"
    assert {*told} == {(503, "Unhealthy"), (424, "Backend")}
    until(front.ready)
    restarts = front.status()["restarts"]
    assert front.client.post("/rerank", json=pair("kill it")).status_code == 424
    assert front.status()["restarts"] == restarts, "it was not run again"
    assert front.client.post("/rerank", json=pair("one")).status_code == 200


@pytest.mark.parametrize("how", ["batch", "process"])
def test_what_is_stuck_is_ended_by_the_watchdog(front: Front, how: str):
    before = front.status()
    if how == "batch":
        answer = front.client.post("/rerank", json=pair("hang"), headers={"x-request-timeout-ms": "8000"})
        assert answer.status_code in (503, 504)
    else:
        os.kill(before["workers"][0]["process"], signal.SIGSTOP)
        assert front.client.post("/rerank", json=pair("one")).status_code in (200, 503)
    until(lambda: front.status()["restarts"] > before["restarts"], 90)
    until(lambda: front.ready() and front.client.post("/rerank", json=pair("one")).status_code == 200, 90)


def test_a_client_that_left_costs_the_worker_nothing_more(front: Front):
    with pytest.raises(httpx.ReadTimeout):
        front.client.post("/rerank", json=pair(*(f"slow {i}" for i in range(500))), timeout=0.5)
    until(lambda: front.status()["load"]["jobs"] == 0, 20)
    assert front.service.admission.requests == 0


def test_a_worker_that_cannot_open_says_why(tmp_path: Path):
    async def start() -> None:
        await Remote.start([Wanted("notes", tmp_path)], ServerSettings(**QUIET))

    with pytest.raises(CollectionError, match="holds no collection"):
        asyncio.run(start())


def test_admin_is_on_the_second_listener_only(front: Front):
    assert front.client.get("/admin/status").status_code == 404
    assert front.client.post("/admin/drain").status_code == 404
    assert httpx.get(f"{front.admin}/admin/status", headers=KEYED, trust_env=False).json()["ready"] is True
    assert httpx.get(f"{front.admin}/admin/status", trust_env=False).status_code == 401
    assert httpx.post(f"{front.admin}/admin/drain", trust_env=False).status_code == 401
    assert httpx.get(f"{front.admin}/metrics", trust_env=False).status_code == 200
    foreign = httpx.post(
        f"{front.admin}/admin/drain", headers={**KEYED, "origin": "https://evil.example"}, trust_env=False
    )
    assert foreign.status_code == 403
    renamed = httpx.get(f"{front.admin}/metrics", headers={"host": "evil.example"}, trust_env=False)
    assert renamed.status_code == 403


@pytest.mark.parametrize("supervised", [True, False], ids=["worker", "in process"])
def test_a_new_version_is_swapped_in_and_a_broken_one_refused(
    tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path, supervised: bool
):
    out, models = tmp_path / "c", {"encoder": tiny_bi_encoder, "reranker": tiny_cross_encoder}
    index_corpus(write(tmp_path / "one.jsonl", 20, "attic"), out, **models)
    with Front(out, supervised=supervised) as front:
        ask = {"query": "the ladder", "queries": None, "budget_ms": None, "top_k": 5}

        def rooms() -> set[str]:
            answer = front.client.post("/v1/search", json={**ask, "query": None, "queries": ["the ladder"] * 3}).json()
            versions = {result["version"] for result in answer["results"]}
            assert len(versions) == 1  # a request sees one version
            return {hit["metadata"]["room"] for result in answer["results"] for hit in result["hits"]}

        assert rooms() == {"attic"}
        assert front.do(front.service.swaps.swap()) is False  # nothing is new
        first = read_pointer(out)
        index_corpus(write(tmp_path / "two.jsonl", 30, "barn"), out, **models)
        assert front.do(front.service.swaps.swap()) is True
        assert rooms() == {"barn"}
        entry = front.client.get("/v1/collections").json()["collections"][0]
        assert (entry["version"], entry["passages"]) == (read_pointer(out).version, 30)
        until(lambda: len(front.host.tasks) <= 1)

        texts = next((out / "versions" / first.version).rglob("texts.npy"))
        texts.write_bytes(texts.read_bytes()[:-7])
        pointer = {"version": first.version, "manifest_sha256": first.manifest_sha256}
        for broken in (json.dumps(pointer), "nonsense"):
            (out / "CURRENT").write_text(broken)
            for _ in range(2):  # asked again it is not opened again
                assert front.do(front.service.swaps.swap()) is False
            assert rooms() == {"barn"}
        assert front.metric('tandem_swaps_total{outcome="refused"} 2.0')
        assert front.metric('tandem_swaps_total{outcome="done"} 1.0')
        forced = httpx.post(f"{front.admin}/admin/reload", headers=KEYED, trust_env=False, timeout=60)
        assert (forced.status_code, forced.json()["swapped"]) == (409, False)
        if supervised:  # the version that was served is what a new worker opens, not the broken one
            os.kill(front.process(), signal.SIGKILL)
            until(lambda: front.status()["restarts"] == 1 and front.ready())
            assert rooms() == {"barn"}


def test_swapped_under_load_every_answer_is_of_one_version(
    tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path
):
    out, models = tmp_path / "c", {"encoder": tiny_bi_encoder, "reranker": tiny_cross_encoder}
    index_corpus(write(tmp_path / "corpus.jsonl", 20, "attic"), out, **models)
    with Front(out, supervised=False) as front:
        stop, bad, seen = threading.Event(), [], set()

        def ask() -> None:
            while not stop.is_set():
                answer = front.client.post("/v1/search", json={"query": "the ladder", "budget_ms": None})
                if answer.status_code != 200:
                    bad.append(answer.text)
                    return
                body = answer.json()
                rooms = {hit["metadata"]["room"] for hit in body["hits"]}
                seen.add((body["version"], *rooms))

        with ThreadPoolExecutor(3) as pool:
            asking = [pool.submit(ask) for _ in range(3)]
            for room in ("barn", "attic", "shed"):
                index_corpus(write(tmp_path / "corpus.jsonl", 20, room), out, **models)
                assert front.do(front.service.swaps.swap()) is True
                version = read_pointer(out).version
                until(lambda version=version, room=room: (version, room) in seen)
            stop.set()
            for each in asking:
                each.result(60)
        assert not bad
        assert all(len(each) == 2 for each in seen)
        assert len({version for version, _ in seen}) == len(seen)


@pytest.mark.parametrize("supervised", [True, False], ids=["worker", "in process"])
def test_a_server_takes_any_reranker_until_the_collection_has_it(
    tmp_path: Path, tiny_bi_encoder: Path, other_cross_encoder: Path, supervised: bool
):
    """`tandem serve --reranker` over a collection without one; retokenised, the next version has the ids."""
    index_corpus(write(tmp_path / "corpus.jsonl", 20, "attic"), tmp_path / "c", encoder=tiny_bi_encoder)
    ask = {"query": "the ladder", "budget_ms": None}
    with Front(tmp_path / "c", supervised=supervised, reranker=other_cross_encoder) as front:

        def hits() -> list[tuple[str, float]]:
            answer = front.client.post("/v1/search", json=ask).json()
            assert (answer["reranked"], answer["degraded"]) == (20, None)
            return [(hit["id"], hit["rerank_score"]) for hit in answer["hits"]]

        def ids() -> str:
            return front.client.get("/v1/collections").json()["collections"][0]["runs"]["token ids"]

        as_read = hits()
        assert ids().startswith("made as passages are read: no token ids are stored")
        retokenize(tmp_path / "c", other_cross_encoder)
        assert front.do(front.service.swaps.swap()) is True
        assert ids() == "stored with the collection"
        assert [name for name, _ in hits()] == [name for name, _ in as_read]
        assert [score for _, score in hits()] == pytest.approx([score for _, score in as_read], abs=1e-5)
