"""Several workers: where they compute, and one collection that all of them serve."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the [serve] extra is not installed")

from tandem.engine.build.indexing import index_corpus
from tandem.engine.errors import InputError
from tandem.engine.platform import cuda_driver
from tandem.engine.server import places as placing
from tandem.engine.server.places import ANYWHERE, VISIBLE, places
from tandem.engine.server.settings import ServerSettings

from .conftest import until
from .test_worker import Front, write


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch):
    """Pretends so many GPUs and cores."""

    def pretend(count: int, *, reached: bool = True, visible: str | None = None) -> None:
        monkeypatch.setattr(cuda_driver, "count", lambda: count)
        monkeypatch.setattr(placing, "_computes_there", lambda device: reached)
        monkeypatch.setattr(placing, "available_cores", lambda: 12)
        monkeypatch.delenv(VISIBLE, raising=False)
        if visible is not None:
            monkeypatch.setenv(VISIBLE, visible)

    return pretend


def seen(**settings: object) -> list[str | None]:
    return [place.environment.get(VISIBLE) for place in places(ServerSettings(**settings))]


def threads(**settings: object) -> list[int | None]:
    return [place.settings.get("threads") for place in places(ServerSettings(**settings))]


def test_there_is_a_worker_for_each_gpu(cards):
    cards(3)
    assert (seen(), threads()) == (["0", "1", "2"], [4, 4, 4])
    assert seen(workers=2) == ["0", "1"]
    assert places(ServerSettings(workers=1)) == places(ServerSettings(supervise=False)) == [ANYWHERE]
    assert threads(threads=2) == [None] * 3, "the setting holds for each"
    with pytest.raises(InputError, match="4 workers are too many for 3 GPU"):
        seen(workers=4)


def test_the_variable_says_which_gpus_there_are(cards):
    cards(2, visible="3, GPU-1a2b")
    assert seen() == ["3", "GPU-1a2b"]
    cards(1, visible="5")
    assert places(ServerSettings()) == [ANYWHERE], "one needs nothing"


def test_on_a_cpu_there_is_one_or_as_many_as_are_wanted(cards):
    cards(0)
    assert places(ServerSettings()) == [ANYWHERE]
    assert (seen(workers=4), threads(workers=4)) == ([None] * 4, [3] * 4)
    assert threads(workers=24) == [1] * 24
    cards(2)
    assert places(ServerSettings(device="cpu")) == [ANYWHERE]
    assert threads(device="cpu", workers=2) == [6, 6]
    cards(2, reached=False)
    assert places(ServerSettings()) == [ANYWHERE], "no package here reaches the GPUs"
    assert threads(workers=3) == [4, 4, 4], "so they share the cores"


def test_without_processes_there_is_one(cards):
    cards(0)
    with pytest.raises(InputError, match="leave --no-supervise out"):
        seen(workers=2, supervise=False)


def test_the_child_that_is_asked_answers():
    assert placing._computes_there("cpu") is False


@pytest.fixture
def collection(tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path) -> Path:
    corpus = write(tmp_path / "corpus.jsonl", 40, "cellar")
    index_corpus(corpus, tmp_path / "c", encoder=tiny_bi_encoder, reranker=tiny_cross_encoder)
    return tmp_path / "c"


def test_two_workers_serve_one_collection(collection: Path):
    """Both answer alike; when one is killed under load the other answers; each searches what is added."""
    with Front(collection, workers=2, timeout_ms=60_000) as front:
        body = {"query": "the ladder", "budget_ms": None, "top_k": 50, "candidates": 100}

        def ask(_: int) -> tuple[int, list[str]]:
            answer = front.client.post("/v1/search", json=body)
            return answer.status_code, [hit["id"] for hit in answer.json().get("hits", [])]

        expected = ask(0)
        first, second = front.process(0), front.process(1)
        assert first != second
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(ask, number) for number in range(40)]
            os.kill(first, signal.SIGKILL)
            assert all(each.result(60) == expected for each in asked)
        assert front.ready()
        until(lambda: front.process(0) not in (None, first))
        assert front.process(1) == second
        assert front.metric('tandem_worker_restarts_total{worker="0"} 1.0')
        assert front.metric('tandem_worker_restarts_total{worker="1"} 0.0')

        new = {"documents": [{"id": "new", "text": "The ladder is behind the door."}]}
        assert front.client.post("/v1/documents", json=new).json()["added"] == 1
        with ThreadPoolExecutor(8) as pool:
            assert all("new" in ids for _, ids in pool.map(ask, range(20)))
        assert not front.service.in_flight
        assert front.service.admission.requests == 0
