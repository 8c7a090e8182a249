"""What HTTP adds to a search."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from ...engine import Engine, EngineError
from ..document import Table
from ..stats import spread
from ..workloads import Workload, described
from .load_generator import BareClient
from .outcomes import cells
from .server_process import HOST, ServerProcess


def overhead(
    workload: Workload,
    server: ServerProcess,
    questions: Sequence[str],
    asked: Sequence[str],
    settings: dict[str, Any],
    deadline_ms: float,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Recall alone (reranking's noise would hide two milliseconds), one at a time: over HTTP, then in this process.

    `outside_engine` is what a request took beyond the total that the engine reports for it: sockets, JSON, two hops,
    and a client that does nothing itself (the standard library's takes some .4 ms more, one on an event loop 1 ms).
    Returned behind the description of the workload, which an open engine knows.
    """
    names = ("device", "threads", "encoder", "reranker", "warm_up")
    chosen = {name: settings[name] for name in names if name in settings}

    def ask(body: bytes) -> tuple[float, float]:
        outcome, answer = connection.post("/v1/search", body)
        if outcome.status != 200:
            raise EngineError(f"a search by itself was answered with {outcome.status}: {answer.decode()[:200]}")
        took = outcome.seconds * 1e3
        return took, took - json.loads(answer)["timings"]["total"]

    with closing(BareClient(HOST, server.port, deadline_ms)) as connection:
        ask(small_search(asked[0]))
        http, beyond = zip(*(ask(small_search(question)) for question in asked), strict=True)
    # Not in turn with HTTP: of two processes that alternate each finds the caches full of the other's weights, and both
    # took twice as long (27 ms for 12).
    with Engine.open(workload.collection, **chosen) as engine:
        engine.search(asked[0], rerank=False)
        inside = [engine.search(question, rerank=False, budget_ms=None).timings.total for question in asked]
        description = described(workload, engine, questions, [])
    return description, {
        "in_process": spread(inside), "http": spread(http), "outside_engine": spread(beyond),
    }  # fmt: skip


def small_search(question: str) -> bytes:
    """The body of a search by recall alone."""
    return json.dumps({"query": question, "rerank": False, "budget_ms": None, "return_text": False}).encode()


def overhead_table(overhead: dict[str, Any]) -> Table:
    """In milliseconds."""
    names = {"in_process": "the engine in this process", "http": "the same over HTTP",
             "outside_engine": "of it outside the engine"}  # fmt: skip
    return Table(
        "What HTTP adds to a search (recall alone, one at a time)",
        ["ms", "p50", "p95", "p99"],
        [[words, *cells(overhead[name])] for name, words in names.items()],
    )
