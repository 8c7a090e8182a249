"""The server under load: what it answers in time at once, twice and five times what it can do, and what HTTP adds.

Capacity is measured first, by clients that wait for their answers. Then requests come at a multiple of it whether they
are answered or not. Goodput counts the answers within the deadline; at five times the capacity it should be what it is
at one, since what cannot be done in time is refused at once. The floor of the overhead is the same search in this
process, asked the same questions. Last, what small searches wait while somebody sends long texts and huge ones.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from typing import Any, TypeVar

from ...engine import Engine, EngineError, InputError
from ...engine.collection.report import Progress, silent
from ..document import Cell, Document, Table, document
from ..stats import Spread, spread
from ..workloads import Workload, described, said
from .load_generator import NO_ANSWER, BareClient, Client, Outcome, closed_loop, open_loop
from .server_process import HOST, ServerProcess, served

MEASURES = (
    "the server at once, twice and five times its capacity: answers within the deadline, how fast the rest is refused, "
    "memory, what HTTP adds to a search, and what others wait beside texts of a million characters"
)
SEARCH, RERANK = "/v1/search", "/rerank"
REFUSED = (429, 503)
# Enough to fill every micro-batch, few enough that each is answered well within the deadline.
CLOSED_CLIENTS = 8
FEWEST_ANSWERS = 30
"""Below it the capacity is a guess, and so is every multiple of it."""
GIANT = 1_000_000
"""Characters of a huge text: the most that the server takes by default."""
ORDINARY = 4_000
"""Characters of a long text, of which the model reads as much: 512 tokens are some 2,500."""
# Long texts a second, a third of what one client gets: without a pause the small ones would measure a queue.
LONG_RATE = 10.0
# Small searches a second beside huge texts: a sixth of what one client gets, so that they do not wait for each other.
SMALL_RATE = 10.0
Result = TypeVar("Result")
Loads = dict[str, dict[str, Any]]


def serve_bench(
    workload: Workload,
    *,
    sample: int = 200,
    candidates: int = 100,
    seconds: float = 30.0,
    deadline_ms: float = 10_000.0,
    multiples: Sequence[float] = (1.0, 2.0, 5.0),
    overhead_requests: int = 100,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    progress: Progress = silent,
) -> Document:
    """Start a server over the workload's collection and measure it.

    `settings` are the server's. Raises what opening the collection raises, EngineError when nothing was answered.
    """
    settings = settings or {}
    questions = workload.questions(sample, seed)
    bodies = [_body(question, candidates=candidates, top_k=min(10, candidates)) for question in questions]
    steps = len(multiples) + 3
    with served(workload.collection, **settings) as server:
        client = Client(HOST, server.port)
        progress(0, steps, "load")
        asked = questions[:overhead_requests]
        description, overhead = _overhead(workload, server, questions, asked, settings, deadline_ms)
        progress(1, steps, "load")
        before = server.resident()
        closed = _run(
            client,
            lambda: closed_loop(
                client, SEARCH, bodies, clients=CLOSED_CLIENTS, seconds=seconds, deadline_ms=deadline_ms
            ),
        )
        capacity = sum(outcome.status == 200 for outcome in closed) / _lasted(closed, seconds)
        if not capacity:
            told = dict(Counter(outcome.status for outcome in closed))
            raise EngineError(
                f"no search was answered in {seconds:g} s (statuses {told}); allow more time or a deadline"
            )
        progress(2, steps, "load")
        loads: Loads = {}
        for place, multiple in enumerate(multiples, start=3):
            outcomes = _open(client, bodies, capacity * multiple, seconds, seed, deadline_ms)
            loads[f"{multiple:g}x"] = {**_summary(outcomes, seconds, deadline_ms), "resident_mb": server.resident()}
            progress(place, steps, "load")
        giants = _beside_giants(client, questions, seconds, seed, deadline_ms)
        progress(steps, steps, "load")
    peak = max(*(load["goodput"] for load in loads.values()), 1e-9)
    for load in loads.values():
        load["of_peak"] = round(load["goodput"] / peak, 3)
    description |= {
        "candidates": candidates, "seconds": seconds, "deadline_ms": deadline_ms,
        "settings": {name: str(value) for name, value in settings.items()},
    }  # fmt: skip
    return document(
        "serve", MEASURES, workload=description,
        tables=[_load_table(description, capacity, before, loads), _overhead_table(overhead), _giant_table(giants)],
        capacity=round(capacity, 2), closed=_summary(closed, seconds, deadline_ms), loads=loads,
        resident_before_mb=before, overhead_ms=overhead, giants=giants,
    )  # fmt: skip


def _run(client: Client, work: Callable[[], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        try:
            return await work()
        finally:
            client.close()  # its connections belong to this event loop

    return asyncio.run(run())


def _open(
    client: Client, bodies: Sequence[bytes], rate: float, seconds: float, seed: int, deadline_ms: float
) -> list[Outcome]:
    return _run(
        client,
        lambda: open_loop(client, SEARCH, bodies, rate=rate, seconds=seconds, seed=seed, deadline_ms=deadline_ms),
    )


def _body(question: str, **fields: Any) -> bytes:
    return json.dumps({"query": question, "budget_ms": None, "return_text": False, **fields}).encode()


def _overhead(
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
        outcome, answer = connection.post(SEARCH, body)
        if outcome.status != 200:
            raise EngineError(f"a search by itself was answered with {outcome.status}: {answer.decode()[:200]}")
        took = outcome.seconds * 1e3
        return took, took - json.loads(answer)["timings"]["total"]

    with closing(BareClient(HOST, server.port, deadline_ms)) as connection:
        ask(_body(asked[0], rerank=False))
        http, beyond = zip(*(ask(_body(question, rerank=False)) for question in asked), strict=True)
    # Not in turn with HTTP: of two processes that alternate each finds the caches full of the other's weights, and both
    # took twice as long (27 ms for 12).
    with Engine.open(workload.collection, **chosen) as engine:
        engine.search(asked[0], rerank=False)
        inside = [engine.search(question, rerank=False, budget_ms=None).timings.total for question in asked]
        description = described(workload, engine, questions, [])
    return description, {
        "in_process": _spread(inside), "http": _spread(http), "outside_engine": _spread(beyond),
    }  # fmt: skip


def _beside_giants(
    client: Client, questions: Sequence[str], seconds: float, seed: int, deadline_ms: float
) -> dict[str, Any]:
    """Small searches (recall alone) at a steady rate: by themselves, while somebody reranks a document longer than
    the model reads, and while somebody reranks a huge one, which costs the model the same.

    The two come as often where the machine keeps up (their rates are told), so what the second adds is what its
    characters cost.
    """
    small = [_body(question, rerank=False) for question in questions]
    words = " ".join(questions)
    texts = [(words * (size // max(1, len(words)) + 1))[:size] for size in (ORDINARY, GIANT)]
    ordinary, giant = (json.dumps({"query": questions[0], "texts": [text]}).encode() for text in texts)

    def beside(other: bytes) -> tuple[list[Outcome], list[Outcome]]:
        async def both() -> tuple[list[Outcome], list[Outcome]]:
            return await asyncio.gather(
                open_loop(client, SEARCH, small, rate=SMALL_RATE, seconds=seconds, seed=seed, deadline_ms=deadline_ms),
                # Its megabytes are not this event loop's.
                asyncio.to_thread(_paced, other, client.port, seconds, deadline_ms),
            )

        return _run(client, both)

    told = {"alone": _summary(_open(client, small, SMALL_RATE, seconds, seed, deadline_ms), seconds, deadline_ms)}
    for name, other in (("ordinary", ordinary), ("huge", giant)):
        outcomes, others = beside(other)
        told[f"beside_{name}"] = _summary(outcomes, seconds, deadline_ms)
        told[name] = _summary(others, seconds, deadline_ms)
    return {**told, "characters": GIANT, "ordinary_characters": ORDINARY}


def _paced(body: bytes, port: int, seconds: float, deadline_ms: float) -> list[Outcome]:
    """Reranks of `body`, one after the other, LONG_RATE a second at most."""
    outcomes: list[Outcome] = []
    start = time.monotonic()
    client: BareClient | None = None
    while (begun := time.monotonic() - start) < seconds:
        try:
            client = client or BareClient(HOST, port, deadline_ms)
            outcomes.append(client.post(RERANK, body)[0])
        except OSError:
            now = time.monotonic()
            outcomes.append(Outcome(NO_ANSWER, now - start - begun, 0.0, now))
            if client is not None:
                client.close()
                client = None
        time.sleep(max(0.0, begun + 1 / LONG_RATE - (time.monotonic() - start)))
    if client is not None:
        client.close()
    return outcomes


def _lasted(outcomes: Sequence[Outcome], seconds: float) -> float:
    """Seconds from the first request to the last answer, `seconds` at least.

    What is still being worked on when the asking ends belongs to the time it takes: divided by the time of asking
    alone, sixty answers in twenty-nine seconds were three a second.
    """
    if not outcomes:
        return seconds
    begun = min(outcome.ended - outcome.seconds for outcome in outcomes)
    return max(seconds, max(outcome.ended for outcome in outcomes) - begun)


def _summary(outcomes: Sequence[Outcome], seconds: float, deadline_ms: float) -> dict[str, Any]:
    accepted = [outcome.seconds * 1e3 for outcome in outcomes if outcome.status == 200]
    refused = [(outcome.seconds - outcome.sent_late) * 1e3 for outcome in outcomes if outcome.status in REFUSED]
    return {
        "offered": round(len(outcomes) / seconds, 2),
        "goodput": round(sum(value <= deadline_ms for value in accepted) / _lasted(outcomes, seconds), 2),
        "lasted": round(_lasted(outcomes, seconds), 1),
        "statuses": dict(sorted(Counter(str(outcome.status) for outcome in outcomes).items())),
        "accepted_ms": _spread(accepted),
        "refused_ms": _spread(refused),
        "sent_late_ms": _spread([outcome.sent_late * 1e3 for outcome in outcomes]),
    }


def _spread(values: Sequence[float]) -> Spread | None:
    return spread(values) if values else None


def _load_table(description: dict[str, Any], capacity: float, before: dict[str, float], loads: Loads) -> Table:
    rows: list[list[Cell]] = []
    for name, load in loads.items():
        answered = "  ".join(f"{status}: {count}" for status, count in load["statuses"].items())
        rows.append(
            [
                name, load["offered"], load["goodput"], f"{load['of_peak']:.0%}", *_cells(load["accepted_ms"]),
                *_cells(load["refused_ms"], "p50", "p99"), answered, f"{sum(load['resident_mb'].values()):.0f}",
            ]
        )  # fmt: skip
    return Table(
        f"Searches that rerank {description['candidates']}: {description['name']}",
        [
            "load", "asked /s", "in time /s", "of the best", "answered p50 ms", "p95", "p99", "refused p50 ms", "p99",
            "statuses", "MB",
        ],
        rows,
        [
            said(description),
            f"capacity {capacity:.2f} searches a second, found by {CLOSED_CLIENTS} clients that wait; "
            f"{description['seconds']:g} s each, deadline {description['deadline_ms'] / 1e3:g} s, in time: within it, "
            "by the time until the last answer; "
            f"memory before: {sum(before.values()):.0f} MB; the load comes from the same cores",
            *([f"only {found} answers found the capacity: it may be far off, so give more --seconds"]
              if (found := round(capacity * description["seconds"])) < FEWEST_ANSWERS else []),
        ],
    )  # fmt: skip


def _overhead_table(overhead: dict[str, Any]) -> Table:
    names = {"in_process": "the engine in this process", "http": "the same over HTTP",
             "outside_engine": "of it outside the engine"}  # fmt: skip
    return Table(
        "What HTTP adds to a search (recall alone, one at a time)",
        ["ms", "p50", "p95", "p99"],
        [[words, *_cells(overhead[name])] for name, words in names.items()],
    )


def _giant_table(giants: dict[str, Any]) -> Table:
    rows: list[list[Cell]] = [
        [words, giants[name]["offered"], *_cells(giants[name]["accepted_ms"])]
        for name, words in (
            ("alone", "small searches alone"), ("beside_ordinary", "the same beside ordinary long texts"),
            ("beside_huge", "the same beside huge texts"), ("ordinary", "the ordinary long texts"),
            ("huge", "the huge texts"),
        )
    ]  # fmt: skip
    return Table(
        f"Small searches beside texts of {giants['characters']:,} characters",
        ["", "asked /s", "p50 ms", "p95", "p99"],
        rows,
        [
            f"small: recall alone; huge: one document of {giants['characters']:,} characters to rerank; "
            f"ordinary: one of {giants['ordinary_characters']:,}, of which the model reads as much; "
            f"one after the other, {LONG_RATE:g} a second at most"
        ],
    )


def _cells(values: Spread | None, *names: str) -> list[Cell]:
    return [None if values is None else values[name] for name in names or ("p50", "p95", "p99")]


def read_multiples(words: str) -> list[float]:
    """The loads that `1,2,5` names, as multiples of the capacity; raises InputError."""
    try:
        loads = [float(value) for value in words.split(",")]
    except ValueError as error:
        raise InputError(f"--multiples {words}: give numbers separated by commas") from error
    if not all(0 < value <= 20 for value in loads):
        raise InputError(f"--multiples {words}: each must be above 0 and at most 20")
    return loads
