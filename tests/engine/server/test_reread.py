"""`reread` over HTTP: the engine's answer, what is reserved for it, and what is counted when time was short."""

from __future__ import annotations

import numpy as np
import pytest

from tandem.engine import Engine
from tandem.engine.config import SearchSettings
from tandem.engine.scoring.maxp import window_counts, window_pair
from tandem.engine.server import ServerSettings, Service
from tandem.engine.server.metrics import Metrics

from .conftest import KEY, running

QUERY = "how to sort a list of words"
ASKED = {"query": QUERY, "rerank_count": 10, "budget_ms": None}


def test_it_answers_as_the_engine_does(long_engine: Engine):
    with running(Service(ServerSettings(api_keys=(KEY,)), long_engine)) as server:
        once = server.client.post("/v1/search", json=ASKED).json()
        twice = server.client.post("/v1/search", json={**ASKED, "reread": 3}).json()
        wrong = server.client.post("/v1/search", json={**ASKED, "reread": 0})
    expected = long_engine.search(QUERY, rerank_count=10, reread=3, budget_ms=None)
    assert (once["reread"], twice["reread"], twice["degraded"]) == (0, 3, None)
    assert [(hit["id"], hit["score"]) for hit in twice["hits"]] == [
        (hit.id, pytest.approx(hit.score, abs=1e-5)) for hit in expected.hits
    ]
    before, after = ({hit["id"]: hit["rerank_score"] for hit in answer["hits"]} for answer in (once, twice))
    assert any(abs(before[name] - after[name]) > 1e-6 for name in list(after)[:3])
    assert [before[name] for name in list(after)[3:]] == pytest.approx([after[name] for name in list(after)[3:]])
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (422, "reread")


def test_the_windows_are_reserved_too(long_engine: Engine):
    service = Service(ServerSettings(api_keys=(KEY,)), long_engine)
    facts, lengths = service.facts, long_engine.collection.tokens(np.arange(60)).lengths
    most = facts.reranker.max_length
    assert facts.passage_windows == pytest.approx(window_counts(lengths, most).mean())
    once, twice = (
        service._search_work(facts, QUERY, SearchSettings(rerank_count=10, budget_ms=None, reread=reread), 0)
        for reread in (None, 3)
    )
    pairs = int(np.ceil(3 * facts.passage_windows))
    assert twice.tokens - once.tokens == pairs * window_pair(len(QUERY) // 4, 3, most)
    assert twice.seconds > once.seconds


def test_too_little_time_for_it_is_counted():
    metrics = Metrics()
    metrics.degrade("fewer_reread")
    assert 'tandem_degraded_total{reason="fewer_reread"} 1.0' in metrics.text().decode()
