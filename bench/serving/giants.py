"""What small searches wait while somebody sends long texts, and huge ones."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Sequence
from typing import Any

from ..document import Cell, Table
from .load_generator import NO_ANSWER, BareClient, Client, Outcome, open_loop
from .outcomes import cells, run, summary
from .overhead import small_search
from .server_process import HOST

GIANT = 1_000_000
"""Characters of a huge text: the most that the server takes by default."""
ORDINARY = 4_000
"""Characters of a long text, of which the model reads as much: 512 tokens are some 2,500."""
# Long texts a second, a third of what one client gets: without a pause the small ones would measure a queue.
LONG_RATE = 10.0
# Small searches a second beside huge texts: a sixth of what one client gets, so that they do not wait for each other.
SMALL_RATE = 10.0


def beside_giants(
    client: Client, questions: Sequence[str], seconds: float, seed: int, deadline_ms: float
) -> dict[str, Any]:
    """Small searches (recall alone) at a steady rate: by themselves, while somebody reranks a document longer than
    the model reads, and while somebody reranks a huge one, which costs the model the same.

    The two come as often where the machine keeps up (their rates are told), so what the second adds is what its
    characters cost.
    """
    small = [small_search(question) for question in questions]
    words = " ".join(questions)
    texts = [(words * (size // max(1, len(words)) + 1))[:size] for size in (ORDINARY, GIANT)]
    ordinary, giant = (json.dumps({"query": questions[0], "texts": [text]}).encode() for text in texts)

    def searches() -> Awaitable[list[Outcome]]:
        return open_loop(
            client, "/v1/search", small, rate=SMALL_RATE, seconds=seconds, seed=seed, deadline_ms=deadline_ms
        )

    def beside(other: bytes) -> tuple[list[Outcome], list[Outcome]]:
        async def both() -> tuple[list[Outcome], list[Outcome]]:
            return await asyncio.gather(
                searches(),
                # Its megabytes are not this event loop's.
                asyncio.to_thread(_paced, other, client.port, seconds, deadline_ms),
            )

        return run(client, both)

    told = {"alone": summary(run(client, searches), seconds, deadline_ms)}
    for name, other in (("ordinary", ordinary), ("huge", giant)):
        outcomes, others = beside(other)
        told[f"beside_{name}"] = summary(outcomes, seconds, deadline_ms)
        told[name] = summary(others, seconds, deadline_ms)
    return {**told, "characters": GIANT, "ordinary_characters": ORDINARY}


def _paced(body: bytes, port: int, seconds: float, deadline_ms: float) -> list[Outcome]:
    """Reranks of `body`, one after the other, LONG_RATE a second at most."""
    outcomes: list[Outcome] = []
    start = time.monotonic()
    client: BareClient | None = None
    while (begun := time.monotonic() - start) < seconds:
        try:
            client = client or BareClient(HOST, port, deadline_ms)
            outcomes.append(client.post("/rerank", body)[0])
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


def giant_table(giants: dict[str, Any]) -> Table:
    """Small searches alone and beside others, and those."""
    rows: list[list[Cell]] = [
        [words, giants[name]["offered"], *cells(giants[name]["accepted_ms"])]
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
