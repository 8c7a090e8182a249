"""The third reading of a search: its best candidates once more, window by window (see `scoring.maxp`)."""

from __future__ import annotations

import numpy as np

from ..models.cross_encoder import CrossEncoder
from ..scheduling.batcher import Batcher
from ..scheduling.job import Job
from ..scoring.fusion import Fusion, Places, Scored, best_of
from ..scoring.maxp import Windows, window_counts, window_pair
from .candidates import Candidates

# Passages that are read again may be longer than the mean of the candidates.
LONGER = 1.25


class Rereading:
    """Reads the windows of the best candidates on the device thread of `batcher`."""

    def __init__(self, reranker: CrossEncoder, fusion: Fusion, batcher: Batcher) -> None:
        self._reranker = reranker
        self._fusion = fusion
        self._batcher = batcher

    def seconds(self, candidates: Candidates, order: Places, count: int) -> float:
        """What reading `count` of the passages `order` again should not exceed."""
        if not len(order):
            return 0.0
        tokenizer, cost = self._reranker.tokenizer, self._reranker.cost
        windows = window_counts(candidates.passages.lengths[order], tokenizer.max_length).mean()
        pair = window_pair(len(candidates.query), tokenizer.pair_special, tokenizer.max_length)
        return float(LONGER * min(count, len(order)) * windows * cost.each(np.array([pair]))[0])

    async def read(self, candidates: Candidates, scored: Scored, count: int) -> None:
        """Read the best `count` of the candidates that all layers read, or the first of them that the time suffices
        for, and move their logits: a passage counts when all of its windows were read.

        Their mean stays, so that they compare with those that were not read again: the best of several windows is
        higher than a whole passage on some texts, and lower on others.
        """
        clock, tokenizer = candidates.clock, self._reranker.tokenizer
        clock.mark()
        best = best_of(scored.logits, candidates.evidence, self._fusion, count)
        windows = Windows.of(candidates.passages.select(best), tokenizer.max_length)
        pairs = tokenizer.pairs(candidates.query, windows.tokens)
        fits = self._reranker.cost.fitting(pairs.lengths, self._batcher.time_left(clock.deadline))
        again = windows.complete(len(best), fits)
        pairs = pairs.select(np.arange(windows.of_first(again)))
        clock.lap("fetch")
        found = np.empty(0, dtype=np.float32)
        if len(pairs):
            served = await self._batcher.run(
                Job(
                    self._reranker,
                    pairs,
                    deadline=clock.deadline,
                    client=candidates.client,
                    asked_at=candidates.asked_at,
                )
            )
            clock.spent(queue=served.queued, rerank=served.running)
            found = served.logits
            if missing := np.flatnonzero(np.isnan(found)).tolist():
                again = windows.complete(again, missing[0])
        first = best[:again]
        if again:
            moved = windows.with_best(scored.logits[first], found[: windows.of_first(again)])
            scored.logits[first] = moved - (moved - scored.logits[first]).mean()
            scored.again[first] = True
