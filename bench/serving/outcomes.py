"""What became of many requests, in a few numbers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from ..document import Cell
from ..stats import Spread, spread
from .load_generator import Client, Outcome

REFUSED = (429, 503)
LATE = 504
Result = TypeVar("Result")


def run(client: Client, work: Callable[[], Awaitable[Result]]) -> Result:
    """What `work` makes of a client, on an event loop of its own."""

    async def working() -> Result:
        try:
            return await work()
        finally:
            client.close()  # its connections belong to this event loop

    return asyncio.run(working())


def lasted(outcomes: Sequence[Outcome], seconds: float) -> float:
    """Seconds from the first request to the last answer, `seconds` at least.

    What is still being worked on when the asking ends belongs to the time it takes: divided by the time of asking
    alone, sixty answers in twenty-nine seconds were three a second.
    """
    if not outcomes:
        return seconds
    begun = min(outcome.ended - outcome.seconds for outcome in outcomes)
    return max(seconds, max(outcome.ended for outcome in outcomes) - begun)


def summary(outcomes: Sequence[Outcome], seconds: float, deadline_ms: float) -> dict[str, Any]:
    """`broken_promises`: the share of what was admitted that was not answered within the deadline."""
    accepted = [outcome.seconds * 1e3 for outcome in outcomes if outcome.status == 200]
    admitted = [outcome for outcome in outcomes if outcome.status in (200, LATE)]
    kept = sum(value <= deadline_ms for value in accepted)
    refused = [(outcome.seconds - outcome.sent_late) * 1e3 for outcome in outcomes if outcome.status in REFUSED]
    return {
        "offered": round(len(outcomes) / seconds, 2),
        "goodput": round(kept / lasted(outcomes, seconds), 2),
        "broken_promises": round(1 - kept / len(admitted), 4) if admitted else None,
        "lasted": round(lasted(outcomes, seconds), 1),
        "statuses": dict(sorted(Counter(str(outcome.status) for outcome in outcomes).items())),
        "accepted_ms": _spread(accepted),
        "refused_ms": _spread(refused),
        "sent_late_ms": _spread([outcome.sent_late * 1e3 for outcome in outcomes]),
    }


def _spread(values: Sequence[float]) -> Spread | None:
    return spread(values) if values else None


def cells(values: Spread | None, *names: str) -> list[Cell]:
    """Percentiles as cells of a table."""
    return [None if values is None else values[name] for name in names or ("p50", "p95", "p99")]
