"""`effort` over HTTP: the engine's answer, what is reserved for it, and what is counted when time was short."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from tandem.engine import Engine
from tandem.engine.config import SearchSettings
from tandem.engine.scheduling.cost_model import exit_saves
from tandem.engine.scoring.effort import EVERYTHING, FINALISTS, Effort, depth_of
from tandem.engine.scoring.maxp import window_counts, window_pair
from tandem.engine.server import ServerSettings, Service
from tandem.engine.server.metrics import Metrics

from .conftest import KEY, running

QUERY = "how to sort a list of words"
EFFORTS: tuple[Effort, ...] = get_args(Effort)


def test_it_answers_as_the_engine_does(long_engine: Engine):
    with running(Service(ServerSettings(api_keys=(KEY,)), long_engine)) as server:

        def asked(**more: object):
            return server.client.post("/v1/search", json={"query": QUERY, "budget_ms": None, **more})

        answers = {effort: asked(effort=effort).json() for effort in EFFORTS}
        usual, wrong, former = asked().json(), asked(effort="some"), asked(rerank_count=10)
    for effort, answer in answers.items():
        expected, depth = long_engine.search(QUERY, effort=effort, budget_ms=None), depth_of(effort)
        assert answer["reranked"] == expected.reranked == depth.of(expected.candidates)
        assert (answer["reread"], answer["degraded"]) == (depth.reread, None)
        assert [(hit["id"], hit["score"]) for hit in answer["hits"]] == [
            (hit.id, pytest.approx(hit.score, abs=1e-5)) for hit in expected.hits
        ]
    assert (usual["reranked"], usual["reread"]) == (answers["balanced"]["reranked"], answers["balanced"]["reread"])
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (422, "effort")
    assert (former.status_code, former.json()["error"]["param"]) == (422, "rerank_count")


def test_as_much_is_reserved_as_is_read(long_engine: Engine):
    service = Service(ServerSettings(api_keys=(KEY,)), long_engine)
    facts, lengths = service.facts(), long_engine.collection.tokens(np.arange(60)).lengths
    most = facts.reranker.max_length
    assert facts.passage_windows == pytest.approx(window_counts(lengths, most).mean())
    pair = min(facts.passage_tokens + len(QUERY) // 4 + facts.reranker.around, most)
    early, cost = facts.early.cost, facts.reranker.cost
    seconds = []
    for effort in EFFORTS:
        work = service._search_work(facts, QUERY, SearchSettings(effort=effort, budget_ms=None), 0)
        depth = depth_of(effort)
        windows = int(np.ceil(depth.reread * facts.passage_windows))
        count = depth.of(60)
        begun = FINALISTS if exit_saves(np.full(count, pair), cost, early, depth.finalists) else 0
        assert (begun > 0) == (effort == "thorough")
        assert work.tokens == (count + begun) * pair + windows * window_pair(len(QUERY) // 4, 3, most)
        seconds.append(work.seconds)
    assert seconds == sorted(set(seconds))


def test_what_was_fitted_and_what_the_device_reads_at_once_are_reserved(long_engine: Engine):
    facts = Service(ServerSettings(api_keys=(KEY,)), long_engine).facts()
    assert replace(facts, enough=40).depth("balanced") == depth_of("balanced", 40)
    on_device = replace(facts, at_once=True)
    assert on_device.depth("balanced") == EVERYTHING
    assert on_device.depth("thorough") == depth_of("thorough")


def test_too_little_time_for_it_is_counted():
    metrics = Metrics()
    metrics.degrade("fewer_reread")
    assert 'tandem_degraded_total{reason="fewer_reread"} 1.0' in metrics.text().decode()
