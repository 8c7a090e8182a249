"""The candidates of a search, as they are handed to the cross-encoder."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ..scheduling.request_steps import Clock
from ..scoring.fusion import Scores
from ..text.tokens import Ids, TokenBatch


@dataclass(frozen=True, slots=True)
class Candidates:
    """`n` passages that may answer a query, and the search that they belong to.

    query:    int32 ids without special tokens, as the cross-encoder's tokenizer has them
    passages: n sequences of such ids
    evidence: float32 [n] what the first stage knows of them (see `Fusion`)
    clock:    what counts the search's time and knows its deadline
    client:   who asks; clients take turns at the device
    asked_at: since when they wait for the cross-encoder, seconds of the monotonic clock
    """

    query: Ids
    passages: TokenBatch
    evidence: Scores
    clock: Clock
    client: str = ""
    asked_at: float = field(default_factory=time.monotonic)
