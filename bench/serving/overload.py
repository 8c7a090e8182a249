"""A server asked for more than it can do: how much is answered in time, how fast the rest is refused.

Capacity is measured first, by clients that wait for their answers. Then requests come at a multiple of it whether they
are answered or not. At five times the capacity as much should be answered in time as at once, since what cannot be
done in time is refused at once.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...engine import EngineError, InputError
from ..document import Cell, Table
from .load_generator import Client, Outcome, closed_loop, open_loop
from .outcomes import cells, lasted, run, summary
from .server_process import ServerProcess

# Enough to fill every micro-batch, few enough that each is answered well within the deadline.
CLOSED_CLIENTS = 8
FEWEST_ANSWERS = 30
"""Below it the capacity is a guess, and so is every multiple of it."""
# Words of each of the texts of a short rerank, as an autocompletion or a chat sends them.
SHORT_WORDS, SHORT_TEXTS = 10, 20


@dataclass(frozen=True, slots=True)
class Offered:
    """One kind of request: bodies that are sent to `path` in turn, and the time that each has."""

    name: str
    words: str
    path: str
    bodies: list[bytes]
    deadline_ms: float


def searches(questions: Sequence[str], candidates: int, deadline_ms: float) -> Offered:
    """Searches that rerank `candidates` passages, without a budget: each is to be done whole."""
    fields = {"candidates": candidates, "top_k": min(10, candidates), "budget_ms": None, "return_text": False}
    bodies = [json.dumps({"query": question, **fields}).encode() for question in questions]
    return Offered("search", f"searches that rerank {candidates}", "/v1/search", bodies, deadline_ms)


def short_reranks(questions: Sequence[str], deadline_ms: float) -> Offered:
    """Reranks of SHORT_TEXTS texts of SHORT_WORDS words, no two alike: no pass answers for two requests."""
    words = itertools.cycle(" ".join(questions).split())
    bodies = []
    for number, question in enumerate(questions):
        texts = [
            " ".join([*itertools.islice(words, SHORT_WORDS - 1), f"{number}-{place}"]) for place in range(SHORT_TEXTS)
        ]
        bodies.append(json.dumps({"query": question, "texts": texts}).encode())
    return Offered(
        "short_rerank", f"reranks of {SHORT_TEXTS} texts of {SHORT_WORDS} words", "/rerank", bodies, deadline_ms
    )


def overload(
    server: ServerProcess, client: Client, load: Offered, multiples: Sequence[float], seconds: float, seed: int,
    step: Callable[[], None],
) -> dict[str, Any]:  # fmt: skip
    """Capacity, and what becomes of `multiples` of it for `seconds` each; `step` is called after each part.

    Raises EngineError when nothing was answered.
    """
    before = server.resident()
    closed = run(
        client,
        lambda: closed_loop(
            client, load.path, load.bodies, clients=CLOSED_CLIENTS, seconds=seconds, deadline_ms=load.deadline_ms
        ),
    )
    capacity = sum(outcome.status == 200 for outcome in closed) / lasted(closed, seconds)
    if not capacity:
        statuses = dict(Counter(outcome.status for outcome in closed))
        raise EngineError(
            f"of {load.words} none was answered in {seconds:g} s (statuses {statuses}); allow more time or a deadline"
        )
    step()
    loads: dict[str, dict[str, Any]] = {}
    for multiple in multiples:
        outcomes = _open(client, load, capacity * multiple, seconds, seed)
        told = summary(outcomes, seconds, load.deadline_ms)
        share = {"of_capacity": round(told["goodput"] / capacity, 3), "resident_mb": server.resident()}
        loads[f"{multiple:g}x"] = {**told, **share}
        step()
    return {
        "capacity": round(capacity, 2), "closed": summary(closed, seconds, load.deadline_ms), "loads": loads,
        "resident_before_mb": before, "deadline_ms": load.deadline_ms,
    }  # fmt: skip


def _open(client: Client, load: Offered, rate: float, seconds: float, seed: int) -> list[Outcome]:
    return run(
        client,
        lambda: open_loop(
            client, load.path, load.bodies, rate=rate, seconds=seconds, seed=seed, deadline_ms=load.deadline_ms
        ),
    )


def overload_table(load: Offered, found: dict[str, Any], seconds: float, notes: Sequence[str]) -> Table:
    """One row a multiple of the capacity."""
    return Table(
        load.words.capitalize(),
        [
            "load", "asked /s", "in time /s", "of capacity", "promises broken", "answered p50 ms", "p99",
            "refused p50 ms", "p99", "statuses", "MB",
        ],
        list(_rows(found["loads"])),
        [
            *notes,
            f"capacity {found['capacity']:.2f} a second, found by {CLOSED_CLIENTS} clients that wait; {seconds:g} s "
            f"each, deadline {load.deadline_ms / 1e3:g} s; in time: within it, by the time until the last answer; "
            "promises broken: of what was admitted, what was not answered in time; "
            f"memory before: {sum(found['resident_before_mb'].values()):.0f} MB; the load comes from the same cores",
            *([f"only {count} answers found the capacity: it may be far off, so give more --seconds"]
              if (count := round(found["capacity"] * seconds)) < FEWEST_ANSWERS else []),
        ],
    )  # fmt: skip


def _rows(loads: dict[str, dict[str, Any]]) -> Iterator[list[Cell]]:
    for name, load in loads.items():
        answered = "  ".join(f"{status}: {count}" for status, count in load["statuses"].items())
        broken = load["broken_promises"]
        yield [
            name, load["offered"], load["goodput"], f"{load['of_capacity']:.0%}",
            None if broken is None else f"{broken:.1%}", *cells(load["accepted_ms"], "p50", "p99"),
            *cells(load["refused_ms"], "p50", "p99"), answered, f"{sum(load['resident_mb'].values()):.0f}",
        ]  # fmt: skip


def read_multiples(words: str) -> list[float]:
    """The loads that `1,2,5` names, as multiples of the capacity; raises InputError."""
    try:
        loads = [float(value) for value in words.split(",")]
    except ValueError as error:
        raise InputError(f"--multiples {words}: give numbers separated by commas") from error
    if not all(0 < value <= 20 for value in loads):
        raise InputError(f"--multiples {words}: each must be above 0 and at most 20")
    return loads
