"""The load that `tandem bench serve` puts on a server, and what it makes of the answers."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing

import pytest

from tandem.bench.serving.load_generator import NO_ANSWER, BareClient, Client, Outcome, closed_loop, open_loop
from tandem.bench.serving.outcomes import summary
from tandem.bench.serving.server_load import serve_bench
from tandem.bench.workloads import Workload
from tandem.engine import Engine, InputError
from tandem.engine.build.beir import Judged

from .conftest import KEY, Running

BODY = json.dumps({"query": "read a json document", "budget_ms": None, "top_k": 3, "candidates": 3}).encode()


def client_of(server: Running, port: int | None = None) -> Client:
    host, found = server.url.removeprefix("http://").split(":")
    return Client(host, port or int(found), {"authorization": f"Bearer {KEY}"})


def test_only_this_machine_is_loaded():
    for host in ("example.org", "10.0.0.1", "0.0.0.0"):
        with pytest.raises(InputError, match="not this machine"):
            Client(host, 80)
        with pytest.raises(InputError, match="not this machine"):
            BareClient(host, 80, 1000.0)


def test_a_bare_client_reads_an_answer_whole_and_tells_of_none(server: Running):
    host, port = server.url.removeprefix("http://").split(":")
    with closing(BareClient(host, int(port), 30_000)) as client:
        outcome, body = client.post("/v1/search", BODY)  # without a key
        assert (outcome.status, json.loads(body)["error"]["type"]) == (401, "unauthorized")
        assert 0 < outcome.seconds < 30
        assert client.post("/v1/search", BODY)[0].status == 401, "a refusal does not end its connection"


def test_arrivals_do_not_wait_for_answers(server: Running):
    async def run() -> list[Outcome]:
        client = client_of(server)
        try:
            return await open_loop(client, "/v1/search", [BODY], rate=20, seconds=2, seed=3, deadline_ms=30_000)
        finally:
            client.close()

    outcomes = asyncio.run(run())
    assert 15 < len(outcomes) < 70  # a Poisson process of 40
    assert {outcome.status for outcome in outcomes} == {200}
    assert all(outcome.seconds >= outcome.sent_late >= 0 for outcome in outcomes)


def test_a_closed_loop_and_a_server_that_is_not_there(server: Running):
    async def run(port: int | None) -> list[Outcome]:
        client = client_of(server, port)
        try:
            return await closed_loop(client, "/v1/search", [BODY], clients=2, seconds=0.3, deadline_ms=30_000)
        finally:
            client.close()

    assert {outcome.status for outcome in asyncio.run(run(None))} == {200}
    assert {outcome.status for outcome in asyncio.run(run(1))} == {NO_ANSWER}


def test_goodput_counts_only_answers_in_time():
    outcomes = [Outcome(200, 0.1, 0.0), Outcome(200, 0.9, 0.0), Outcome(429, 0.003, 0.001), Outcome(504, 1.0, 0.0)]
    told = summary(outcomes, seconds=2, deadline_ms=500)
    assert (told["goodput"], told["offered"]) == (0.5, 2.0)
    assert told["refused_ms"]["p50"] == pytest.approx(2.0)
    assert told["statuses"] == {"200": 2, "429": 1, "504": 1}


def test_goodput_is_by_the_time_until_the_last_answer():
    """A server that answers two a second, asked ten at once and no more for a second, has a goodput of two."""
    queued = [Outcome(200, 0.5 * place, 0.0, 100.0 + 0.5 * place) for place in range(1, 11)]
    told = summary(queued, seconds=1, deadline_ms=60_000)
    assert (told["goodput"], told["lasted"], told["offered"]) == (2.0, 5.0, 10.0)


def test_the_benchmark_end_to_end(engine: Engine):
    queries = {"a": "read json", "b": "a lock", "c": "threads"}
    document = serve_bench(
        Workload("tiny", engine.collection.path, Judged(queries, {})), candidates=3, seconds=1.0, deadline_ms=30_000,
        multiples=(1.0,), settings={"device": "cpu", "threads": 1, "warm_up": False},
    )  # fmt: skip
    for name in ("search", "short_rerank"):
        found = document["overloads"][name]
        assert found["capacity"] > 0
        assert found["loads"]["1x"]["statuses"]["200"] > 0
        assert found["loads"]["1x"]["broken_promises"] <= 1
        assert set(found["loads"]["1x"]["resident_mb"]) == {"http", "worker"}
    assert document["overhead_ms"]["outside_engine"]["p50"] > 0
    assert document["giants"]["huge"]["accepted_ms"]["n"] > 0
    assert set(document["giants"]["beside_huge"]["statuses"]) == {"200"}
    assert document["giants"]["beside_ordinary"]["accepted_ms"]["p50"] > 0
    assert [len(table["rows"]) for table in document["tables"]] == [1, 1, 3, 5]
    json.dumps(document, allow_nan=False)
