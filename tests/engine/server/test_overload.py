"""Admission, deadlines, isolation, clients that leave, and going down."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from tandem.engine import Engine
from tandem.engine.scheduling.cost_model import CostModel
from tandem.engine.server.admission import Admission, Work, lengths_of, search_work, work_of
from tandem.engine.server.errors import Failure
from tandem.engine.server.service import Service

from .conftest import KEY, Running, until
from .test_app import BODIES, message_of

PAIR = {"query": "q", "documents": ["one passage", "another"]}


def test_work_is_reserved_whole_and_given_back():
    admission = Admission(max_tokens=100, max_requests=2)
    with admission.reserve(Work(1_000, 99.0), remaining=1.0):  # an idle server takes anything
        with pytest.raises(Failure) as caught, admission.reserve(Work(1, 0.1), remaining=30.0):
            pass
        assert (caught.value.kind, caught.value.retry_after >= 1) == ("overloaded", True)
    assert (admission.tokens, admission.seconds(), admission.requests) == (0, 0.0, 0)
    with admission.reserve(Work(10, 2.0), 30.0):
        with pytest.raises(Failure, match="in time"), admission.reserve(Work(10, 1.0), remaining=2.5):
            pass
        with admission.reserve(Work(90, 1.0), remaining=30.0):
            with pytest.raises(Failure, match="as much work"), admission.reserve(Work(0, 0.0), remaining=30.0):
                pass  # two requests are the most
            assert (admission.tokens, admission.requests) == (100, 2)


def test_each_worker_has_a_line_of_its_own():
    admission = Admission(max_tokens=100, max_requests=3)
    with admission.reserve(Work(100, 5.0), 30.0, "a", worker=0):
        with pytest.raises(Failure, match="as much work"), admission.reserve(Work(1, 0.1), 30.0, "a", worker=0):
            pass
        assert admission.expected(Work(1, 1.0), "a", worker=1) == 1.0, "the other's work is not in its way"
        with admission.reserve(Work(100, 2.0), 2.5, "a", worker=1):
            assert (admission.seconds(0), admission.seconds(1)) == (5.0, 2.0)
            assert (admission.tokens, admission.requests) == (200, 2)
    assert (admission.seconds(0), admission.seconds(1), admission.tokens) == (0.0, 0.0, 0)
    with admission.reserve(Work(10, 5.0), 30.0, "a", worker=0) as move:
        move(1)
        assert (admission.seconds(0), admission.seconds(1)) == (0.0, 5.0), "its worker ended, and another goes on"
    assert (admission.seconds(0), admission.seconds(1), admission.tokens) == (0.0, 0.0, 0)


def test_a_client_that_asks_for_little_is_not_refused_for_anothers_queue():
    admission = Admission(max_tokens=10_000, max_requests=100)
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(admission.reserve(Work(10, 3.0), 34.0, "greedy"))
        assert admission.expected(Work(10, 3.0), "greedy") == pytest.approx(33.0)
        with pytest.raises(Failure, match="in time"), admission.reserve(Work(10, 3.0), 34.0, "greedy"):
            pass
        assert admission.expected(Work(10, 1.0), "polite") == pytest.approx(2.0)
        with admission.reserve(Work(10, 1.0), 2.5, "polite"):
            assert admission.expected(Work(10, 1.0), "third") == pytest.approx(3.0)
    assert (admission.requests, admission.expected(Work(0, 0.0), "greedy")) == (0, 0.0)


def test_estimates_are_bounded_by_what_a_model_reads():
    lengths = lengths_of(np.array([0, 40, 10**9]), beside=5, max_length=128)
    assert lengths.tolist() == [6, 16, 128]
    cost = CostModel(call=0.0, token=1e-3, square=0.0, tokens=512)
    work = work_of(lengths, cost)
    assert (work.tokens, work.seconds) == (150, pytest.approx(0.15))
    assert work_of(lengths, cost, at_most=0.1).seconds == 0.1


def test_a_search_with_an_early_exit_is_estimated_by_both_passes():
    whole, early = CostModel(0.0, 1e-3, 0.0, 512), CostModel(0.0, 2e-4, 0.0, 512)
    lengths, none = np.full(10, 100), np.full(0, 70)
    found = search_work(lengths, whole, early, 2, none, None)
    assert (found.tokens, found.seconds) == (1_200, pytest.approx(0.2 + 0.2))
    assert search_work(lengths, whole, early, 2, none, 0.3).seconds == 0.3
    for unstaged in ((None, 2), (early, None), (early, 10)):
        assert search_work(lengths, whole, *unstaged, none, None) == work_of(lengths, whole)


def test_a_search_that_reads_again_is_estimated_with_its_windows():
    whole, early = CostModel(0.0, 1e-3, 0.0, 512), CostModel(0.0, 2e-4, 0.0, 512)
    lengths, windows = np.full(10, 100), np.full(6, 70)
    found = search_work(lengths, whole, early, 2, windows, None)
    assert (found.tokens, found.seconds) == (1_620, pytest.approx(0.2 + 0.2 + 0.42))
    assert search_work(lengths, whole, None, None, windows, None).seconds == pytest.approx(1.0 + 0.42)
    assert search_work(lengths, whole, early, 2, windows, 0.5).seconds == 0.5


@pytest.mark.parametrize("path", [path for path in BODIES if path not in ("/tokenize", "/decode")])
def test_a_full_server_says_so_in_every_dialect(start: Callable[..., Running], held: threading.Event, path: str):
    server = start(max_concurrent_requests=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.client.post, "/v2/rerank", json=PAIR)
        until(lambda: server.service.admission.requests == 1)
        answer = server.client.post(path, json=BODIES[path])
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert "try again" in message_of(path, answer.json())
        held.set()
        assert first.result().status_code == 200
    assert server.client.post(path, json=BODIES[path]).status_code == 200
    assert server.service.admission.requests == 0


def test_past_its_deadline_a_request_gets_504_and_costs_nothing_more(
    start: Callable[..., Running], held: threading.Event, engine: Engine
):
    server = start(timeout_ms=60_000)
    answer = server.client.post("/v2/rerank", json=PAIR, headers={"x-request-timeout-ms": "100"})
    assert answer.status_code == 504
    assert "100 ms" in answer.json()["message"]
    # A second one waits behind the first on the device and is dropped before it gets there.
    late = server.client.post("/rerank", json={"query": "q", "texts": ["t"]}, headers={"x-request-timeout-ms": "100"})
    assert (late.status_code, late.json()["error_type"]) == (504, "Backend")
    until(lambda: server.service.admission.requests == 0)
    batches: list[int] = []
    engine.batcher.on_batch = lambda sequences, tokens: batches.append(sequences)
    held.set()
    # Other passages than the first request's: its own might be answered by the pass that was held up.
    other = {"query": "q", "documents": ["a third passage", "a fourth"]}
    assert server.client.post("/v2/rerank", json=other).status_code == 200
    assert batches[-1] == 2
    assert len(batches) <= 2  # the pass that was held up, and this one


def test_a_deadline_only_shortens_the_servers(start: Callable[..., Running], held: threading.Event):
    server = start(timeout_ms=100)
    answer = server.client.post("/v2/rerank", json=PAIR, headers={"x-request-timeout-ms": "60000"})
    assert answer.status_code == 504


def test_a_client_that_leaves_frees_its_place(start: Callable[..., Running], held: threading.Event):
    server = start()
    with pytest.raises(httpx.ReadTimeout):
        server.client.post("/v2/rerank", json=PAIR, timeout=0.3)
    until(lambda: server.service.admission.requests == 0 and not server.service.in_flight)
    held.set()
    assert server.client.post("/v2/rerank", json=PAIR).status_code == 200
    assert "tandem_cancelled_total 1.0" in server.client.get("/metrics").text


@pytest.mark.parametrize("how", ["exception", "nan"])
def test_one_bad_item_among_64_requests_fails_alone(
    server: Running, engine: Engine, monkeypatch: pytest.MonkeyPatch, how: str
):
    poison = int(engine.reranker.tokenizer.encode("zipfile")[-1])
    run_until = engine.reranker.runtime.run_until

    def poisoned(batch, stop):
        hit = np.array([poison in batch[row] for row in range(len(batch))])
        if how == "exception" and hit.any():
            raise RuntimeError("the device choked")
        scores = run_until(batch, stop)
        scores[hit[: len(scores)]] = np.nan
        return scores

    monkeypatch.setattr(engine.reranker.runtime, "run_until", poisoned)
    bodies = [{"query": "q", "texts": [f"passage {place}", "other words"]} for place in range(64)]
    bodies[37]["texts"][1] = "zipfile"
    clean = [text for place, body in enumerate(bodies) if place != 37 for text in body["texts"]]
    assert all(poison not in engine.reranker.tokenizer.encode(text) for text in clean)
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda body: server.client.post("/rerank", json=body), bodies))
    statuses = [answer.status_code for answer in answers]
    assert [place for place, status in enumerate(statuses) if status != 200] == [37]
    assert (statuses[37], answers[37].json()["error_type"]) == (424, "Backend")
    assert all(len(answer.json()) == 2 for answer in answers if answer.status_code == 200)


def test_at_the_end_of_a_drain_what_is_left_gets_503(start: Callable[..., Running], held: threading.Event):
    server = start()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.client.post, "/v2/rerank", json=PAIR)
        until(lambda: server.service.admission.requests == 1)
        server.service.draining = True
        assert server.client.get("/readyz").status_code == 503
        assert server.client.get("/livez").status_code == 200
        server.service.closing = True
        refused = server.client.post("/v1/embeddings", json={"input": "x"})
        assert (refused.status_code, refused.headers["connection"]) == (503, "close")
        _on_loop(server.service)
        answer = first.result()
        assert (answer.status_code, "going down" in answer.json()["message"]) == (503, True)
        held.set()


def _on_loop(service: Service) -> None:
    request = next(iter(service.in_flight))
    request.done.get_loop().call_soon_threadsafe(service.abort)


def test_the_process_serves_drains_and_exits_cleanly(engine: Engine, tmp_path: Path):
    """`tandem serve` end to end: settings from a file and a variable, two listeners, SIGTERM with a live connection."""
    port, metrics = _free_port(), _free_port()
    config = tmp_path / "tandem.toml"
    config.write_text(f"port = {port}\nadmin_port = 1\ndrain_delay_ms = 0\nwarm_up = false\n")
    environment = {**os.environ, "TANDEM_API_KEYS": KEY, "TANDEM_ADMIN_PORT": str(metrics), "TANDEM_DEVICE": "cpu"}
    process = subprocess.Popen(
        [sys.executable, "-c", "from tandem.cli import main; main()", "serve", str(engine.collection.path),
         "--config", str(config)],
        env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            _until_ready(client, process)
            assert client.post("/v1/search", json={"query": "secret words"}).status_code == 401
            key = {"authorization": f"Bearer {KEY}"}
            assert client.post("/v1/search", json={"query": "secret words"}, headers=key).status_code == 200
            second = f"http://127.0.0.1:{metrics}"
            assert "tandem_ready 1.0" in httpx.get(f"{second}/metrics", trust_env=False).text
            assert httpx.post(f"{second}/v1/search", json={"query": "x"}, trust_env=False).status_code == 404
            process.send_signal(signal.SIGTERM)
            _, logged = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, logged
    lines = [json.loads(line) for line in logged.splitlines()]
    messages = [line["message"] for line in lines]
    assert messages[-1] == "stopped"
    assert "draining" in messages
    assert [line["status"] for line in lines if line.get("status") == 401] == [401]
    assert [line["status"] for line in lines if line.get("route") == "/v1/search"] == [200]
    assert "secret words" not in logged
    assert KEY not in logged


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return bound.getsockname()[1]


def _until_ready(client: httpx.Client, process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("not ready within a minute")
