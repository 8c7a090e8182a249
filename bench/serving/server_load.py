"""The server under load: what it does when too much is asked of it, what HTTP adds, and what huge texts cost others.

The floor of what HTTP adds is the same search in this process, asked the same questions.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ...engine.collection.report import Progress, silent
from ..document import Document, document
from ..workloads import Workload, said
from .giants import beside_giants, giant_table
from .load_generator import Client
from .overhead import overhead, overhead_table
from .overload import overload, overload_table, searches, short_reranks
from .server_process import HOST, served

MEASURES = (
    "the server at once, twice and five times its capacity, with searches and with short reranks: answers within the "
    "deadline, promises broken, how fast the rest is refused, memory; what HTTP adds to a search, and what others wait "
    "beside texts of a million characters"
)


def serve_bench(
    workload: Workload,
    *,
    sample: int = 200,
    candidates: int = 100,
    seconds: float = 30.0,
    deadline_ms: float = 10_000.0,
    short_deadline_ms: float = 1_000.0,
    multiples: Sequence[float] = (1.0, 2.0, 5.0),
    overhead_requests: int = 100,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    progress: Progress = silent,
) -> Document:
    """Start a server over the workload's collection and measure it.

    `deadline_ms` is that of searches, `short_deadline_ms` that of short reranks; `settings` are the server's. Raises
    what opening the collection raises, EngineError when nothing was answered.
    """
    settings = settings or {}
    questions = workload.questions(sample, seed)
    loads = [searches(questions, candidates, deadline_ms), short_reranks(questions, short_deadline_ms)]
    done, steps = -1, 2 + len(loads) * (1 + len(multiples))

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, steps, "load")

    with served(workload.collection, **settings) as server:
        client = Client(HOST, server.port)
        step()
        asked = questions[:overhead_requests]
        description, added = overhead(workload, server, questions, asked, settings, deadline_ms)
        step()
        busy = os.getloadavg()[0]
        found = {load.name: overload(server, client, load, multiples, seconds, seed, step) for load in loads}
        giants = beside_giants(client, questions, seconds, seed, deadline_ms)
        step()
    description |= {
        "candidates": candidates, "seconds": seconds, "load_average_before": round(busy, 2),
        "settings": {name: str(value) for name, value in settings.items()},
    }  # fmt: skip
    notes = [said(description), f"the machine's own load before: {busy:.1f}"]
    tables = [overload_table(load, found[load.name], seconds, notes) for load in loads]
    return document(
        "serve", MEASURES, workload=description, tables=[*tables, overhead_table(added), giant_table(giants)],
        overloads=found, overhead_ms=added, giants=giants,
    )  # fmt: skip
