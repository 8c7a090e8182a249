"""The server under load: what it answers in time at once, twice and five times what it can do, and what HTTP adds.

Capacity is measured first, by clients that wait for their answers. Then requests come at a multiple of it whether they
are answered or not. Goodput counts the answers within the deadline; at five times the capacity it should be what it is
at one, since what cannot be done in time is refused at once. The floor of the overhead is the same search in this
process; both are asked the same questions in turn.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import Engine, EngineError
from .environment import card
from .load import Client, Outcome, closed_loop, open_loop
from .served import HOST, Served, served

PATH = "/v1/search"
REFUSED = (429, 503)
# Enough to fill every micro-batch, few enough that each is answered well within the deadline.
CLOSED_CLIENTS = 8


def serve_bench(
    collection: Path,
    questions: Sequence[str],
    *,
    candidates: int = 100,
    seconds: float = 30.0,
    deadline_ms: float = 10_000.0,
    multiples: Sequence[float] = (1.0, 2.0, 5.0),
    overhead_requests: int = 100,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    progress: Callable[[int, int | None, str], None] = lambda done, total, what: None,
) -> dict[str, Any]:
    """Start a server over `collection` and measure it; returns the document that the command prints.

    `settings` are the server's. Raises what opening the collection raises.
    """
    settings = settings or {}
    bodies = [_body(question, candidates=candidates, top_k=min(10, candidates)) for question in questions]
    with served(collection, **settings) as server:
        client = Client(HOST, server.port)
        steps = len(multiples) + 2
        progress(0, steps, "load")
        overhead = _overhead(collection, server, questions[:overhead_requests], settings)
        progress(1, steps, "load")
        before = server.resident()
        closed = _run(client, closed_loop, bodies, clients=CLOSED_CLIENTS, seconds=seconds, deadline_ms=deadline_ms)
        capacity = sum(outcome.status == 200 for outcome in closed) / seconds
        if not capacity:
            told = dict(Counter(outcome.status for outcome in closed))
            raise EngineError(
                f"no search was answered in {seconds:g} s (statuses {told}); allow more time or a deadline"
            )
        progress(2, steps, "load")
        loads: dict[str, Any] = {}
        for place, multiple in enumerate(multiples, start=3):
            outcomes = _run(
                client, open_loop, bodies, rate=capacity * multiple, seconds=seconds, seed=seed, deadline_ms=deadline_ms
            )
            loads[f"{multiple:g}x"] = {**_summary(outcomes, seconds, deadline_ms), "resident_mb": server.resident()}
            progress(place, steps, "load")
        goodput = {name: load["goodput"] for name, load in loads.items()}
        return {
            "benchmark": "serve",
            "environment": card(),
            "workload": {
                "collection": collection.name, "questions": len(questions), "candidates": candidates,
                "seconds": seconds, "deadline_ms": deadline_ms, "settings": {k: str(v) for k, v in settings.items()},
            },
            "capacity": round(capacity, 2),
            "closed": _summary(closed, seconds, deadline_ms),
            "loads": loads,
            "goodput_of_peak": {
                name: round(value / max(*goodput.values(), 1e-9), 3) for name, value in goodput.items()
            },
            "resident_before_mb": before,
            "overhead_ms": overhead,
        }  # fmt: skip


def _run(client: Client, loop: Callable[..., Any], bodies: Sequence[bytes], **told: Any) -> list[Outcome]:
    async def run() -> list[Outcome]:
        try:
            outcomes: list[Outcome] = await loop(client, PATH, bodies, **told)
            return outcomes
        finally:
            client.close()  # its connections belong to this event loop

    return asyncio.run(run())


def _body(question: str, **fields: Any) -> bytes:
    return json.dumps({"query": question, "budget_ms": None, "return_text": False, **fields}).encode()


def _overhead(collection: Path, server: Served, questions: Sequence[str], settings: dict[str, Any]) -> dict[str, Any]:
    """Recall alone (reranking's noise would hide two milliseconds), one at a time: in this process, and over HTTP.

    `outside_engine` is what a request took beyond the total that the engine reports for it: sockets, JSON, two hops.
    """
    names = ("device", "threads", "encoder", "reranker", "warm_up")
    chosen = {name: settings[name] for name in names if name in settings}
    inside, http, beyond = [], [], []

    async def ask(client: Client, body: bytes) -> tuple[float, float]:
        start = time.perf_counter()
        _, answer = await client.post(PATH, body)
        took = (time.perf_counter() - start) * 1e3
        return took, took - json.loads(answer)["timings"]["total"]

    with Engine.open(collection, **chosen) as engine, asyncio.Runner() as runner:
        client = Client(HOST, server.port)
        engine.search(questions[0], rerank=False)
        runner.run(ask(client, _body(questions[0], rerank=False)))
        for question in questions:
            inside.append(engine.search(question, rerank=False, budget_ms=None).timings.total)
            took, outside = runner.run(ask(client, _body(question, rerank=False)))
            http.append(took)
            beyond.append(outside)
        client.close()
    return {"in_process": _percentiles(inside), "http": _percentiles(http), "outside_engine": _percentiles(beyond)}


def _summary(outcomes: Sequence[Outcome], seconds: float, deadline_ms: float) -> dict[str, Any]:
    accepted = [outcome.seconds * 1e3 for outcome in outcomes if outcome.status == 200]
    refused = [(outcome.seconds - outcome.sent_late) * 1e3 for outcome in outcomes if outcome.status in REFUSED]
    return {
        "offered": round(len(outcomes) / seconds, 2),
        "goodput": round(sum(value <= deadline_ms for value in accepted) / seconds, 2),
        "statuses": dict(sorted(Counter(str(outcome.status) for outcome in outcomes).items())),
        "accepted_ms": _percentiles(accepted),
        "refused_ms": _percentiles(refused),
        "sent_late_ms": _percentiles([outcome.sent_late * 1e3 for outcome in outcomes]),
    }


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return dict(zip(("p50", "p95", "p99"), np.percentile(values, (50, 95, 99)).round(2).tolist(), strict=True))
