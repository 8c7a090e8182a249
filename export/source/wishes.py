"""What a caller of an export wants otherwise than the model's files say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Pooling = Literal["cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
"""sentence-transformers' names for how token vectors become one."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """None: as the model's files say.

    query_prompt, passage_prompt: text put before a query or a passage
    pooling:                      of an encoder whose files do not say it
    max_length:                   tokens at most, special tokens included
    dimensions:                   the first so many numbers of a vector (Matryoshka models)
    """

    query_prompt: str | None = None
    passage_prompt: str | None = None
    pooling: Pooling | None = None
    max_length: int | None = None
    dimensions: int | None = None
