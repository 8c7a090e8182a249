"""How much of a search's candidates the cross-encoder reads: what each `effort` stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Effort = Literal["quick", "balanced", "thorough"]
# Of 250 questions of squad-dev and 232 of faq, left-out pages, more than 22 to 30 read brought nothing (bench/LOG.md).
# Where a collection has weights of its own, how many are enough was measured on its own questions.
ENOUGH = 30
# Of those that an early exit read: with 20, some questions of faq lose what 30 keep.
FINALISTS = 30
# Three read again bring a point of accuracy@1, two most of it, five no more.
REREAD = 3
# Ten read, and three of them again, are as good within .002 of nDCG@10 in less than half of the time.
QUICK = 10


@dataclass(frozen=True, slots=True)
class RerankDepth:
    """What the cross-encoder is to read of a search's candidates, those with the best evidence first; with time for it.

    reranked:  how many it reads at all; None: all of them
    finalists: of these, how many all layers read where an early exit reads all of them first; None: all of them
    reread:    of these, how many of the best it reads once more, window by window
    """

    reranked: int | None = None
    finalists: int | None = None
    reread: int = 0

    def of(self, candidates: int) -> int:
        """How many of so many `candidates` are to be read."""
        return candidates if self.reranked is None else min(self.reranked, candidates)


EVERYTHING = RerankDepth()
"""Every candidate by all layers, once: for whoever compares orders or fits weights."""


def depth_of(effort: Effort, enough: int | None = None) -> RerankDepth:
    """What `effort` stands for; `enough`: see `Fusion`, None where it was not fitted."""
    if effort == "quick":
        return RerankDepth(QUICK, None, REREAD)
    if effort == "balanced":
        return RerankDepth(enough or ENOUGH, FINALISTS, REREAD)
    return RerankDepth(None, FINALISTS, REREAD)
