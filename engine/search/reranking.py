"""The second stage of a search: which candidates the cross-encoder reads, and with how many of its layers.

Where the artifact has an early exit, its first layers read every candidate, and only the finalists, those with the best
fused score by then, are read by all layers. Of six layers with an exit after the third and 20 finalists of 100, five
eighths of the work are left: the exit takes 0.44 of the model's time (its last layer computes little but [CLS]), the
finalists 0.20. How many finalists it takes, and what an exit after the second layer is worth: bench/LOG.md.

Where it is asked for (`reread`), the best of the finalists are read once more, window by window (see `scoring.maxp`).
"""

from __future__ import annotations

import time
from collections.abc import Generator
from concurrent.futures import Future
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..models.cross_encoder import CrossEncoder
from ..scheduling.batcher import Batcher
from ..scheduling.cost_model import exit_saves
from ..scheduling.job import Job, Served
from ..scheduling.request_steps import Clock, served_to
from ..scoring.fusion import Fusion, Scores
from ..scoring.maxp import Windows, window_counts, window_pair
from ..text.tokens import TokenBatch
from .candidates import Candidates, Places, Scored, best_of

# As many with the best evidence have, within a point, what all have (bench/LOG.md): fewer are not read for the windows'
# sake.
LEAST_READ = 8
# Passages that are read again may be longer than the mean of the candidates.
LONGER = 1.25


@dataclass(frozen=True, slots=True)
class ReadingPlan:
    """How many of the first candidates are read by the early exit's layers (0: there is no exit) and by all.

    reserve: seconds that the finalists are expected to take
    """

    early: int
    whole: int
    reserve: float = 0.0


class Reranking:
    """Scores the candidates of searches on the device thread of `batcher`."""

    def __init__(self, reranker: CrossEncoder, fusion: Fusion, batcher: Batcher) -> None:
        self._reranker = reranker
        self._fusion = fusion
        self._batcher = batcher

    def score(
        self, candidates: Candidates, *, count: int, finalists: int | None, reread: int = 0
    ) -> Generator[Future[Served], Served | None, Scored]:
        """Read `count` candidates, or as many as fit into the time left, those with the best evidence first; under the
        pure cross-encoder order, in the order given.

        finalists: candidates that all layers read, None: all of them; reread: of these, the candidates that are then
        read once more, window by window, the best by fused score. Time for it is put by where enough are read besides.
        """
        candidates.clock.mark()
        everyone = np.arange(len(candidates.passages))
        order = np.argsort(-candidates.evidence, kind="stable") if self._fusion.recall_weight else everyone
        order = order[:count]
        lengths = self._reranker.tokenizer.pair_lengths(candidates.query, candidates.passages)[order]
        put_by = self._window_seconds(candidates, order, reread)
        if put_by and self._fitting(lengths, candidates.clock, put_by) < min(max(reread, LEAST_READ), len(order)):
            put_by = 0.0
        scored = yield from self._read(candidates, order, lengths, finalists, put_by)
        if reread and scored.finalists:
            scored = yield from self._read_again(candidates, scored, reread)
        return scored

    def _read(
        self,
        candidates: Candidates,
        order: Places,
        lengths: npt.NDArray[np.int64],
        finalists: int | None,
        put_by: float,
    ) -> Generator[Future[Served], Served | None, Scored]:
        """The passages `order`, of which the pairs have `lengths`, whole: as many as leave `put_by` seconds."""
        clock, evidence = candidates.clock, candidates.evidence
        left = self._left(clock, put_by)
        chosen = plan(lengths, self._reranker, finalists, left)
        read = order[: chosen.early or chosen.whole]
        degraded = None if left is None or len(read) == len(order) else _too_many(len(read), len(order), left)
        pairs = self._reranker.tokenizer.pairs(candidates.query, candidates.passages.select(read))
        scored = Scored.nothing(len(evidence))
        if chosen.early and self._reranker.early is not None:
            deadline = None if clock.deadline is None else clock.deadline - chosen.reserve
            clock.lap("fetch")
            job = Job(self._reranker.early, pairs, deadline=deadline, client=candidates.client)
            scored.early[read], cut = yield from self._run(job, clock)
            clock.mark()
            best = best_of(scored.early[read], evidence[read], self._fusion, chosen.whole)
            degraded = degraded or cut
            fits = self._fitting(pairs.lengths[best], clock)
            if fits < len(best):
                degraded = degraded or f"budget: {fits} of {len(best)} finalists fitted into the time left"
            read, pairs = read[best[:fits]], pairs.select(best[:fits])
        clock.lap("fetch")
        scored.logits[read], cut = yield from self._run(self._job(candidates, pairs), clock)
        return replace(scored, degraded=degraded or cut)

    def _read_again(
        self, candidates: Candidates, scored: Scored, count: int
    ) -> Generator[Future[Served], Served | None, Scored]:
        """The best `count` of the candidates that all layers read, window by window, or the first of them that the time
        suffices for: a passage counts when all of its windows were read."""
        clock, tokenizer = candidates.clock, self._reranker.tokenizer
        clock.mark()
        best = best_of(scored.logits, candidates.evidence, self._fusion, count)
        windows = Windows.of(candidates.passages.select(best), tokenizer.max_length)
        pairs = tokenizer.pairs(candidates.query, windows.tokens)
        again = windows.complete(len(best), self._fitting(pairs.lengths, clock))
        pairs = pairs.select(np.arange(windows.of_first(again)))
        clock.lap("fetch")
        found = np.empty(0, dtype=np.float32)
        if len(pairs):
            found, _ = yield from self._run(self._job(candidates, pairs), clock)
            if missing := np.flatnonzero(np.isnan(found)).tolist():
                again = windows.complete(again, missing[0])
        first = best[:again]
        scored.logits[first] = windows.with_best(scored.logits[first], found[: windows.of_first(again)])
        scored.again[first] = True
        if again == len(best):
            return scored
        return replace(scored, degraded=scored.degraded or f"budget: {again} of the {len(best)} best were read again")

    def _window_seconds(self, candidates: Candidates, order: Places, count: int) -> float:
        """What reading `count` of the passages `order` again should not exceed."""
        if not count or not len(order):
            return 0.0
        tokenizer, cost = self._reranker.tokenizer, self._reranker.cost
        windows = window_counts(candidates.passages.lengths[order], tokenizer.max_length).mean()
        pair = window_pair(len(candidates.query), tokenizer.pair_special, tokenizer.max_length)
        return float(LONGER * min(count, len(order)) * windows * cost.each(np.array([pair]))[0])

    def _job(self, candidates: Candidates, pairs: TokenBatch) -> Job:
        """All layers on `pairs`."""
        return Job(
            self._reranker, pairs, deadline=candidates.clock.deadline, client=candidates.client,
            asked_at=candidates.asked_at,
        )  # fmt: skip

    def _run(self, job: Job, clock: Clock) -> Generator[Future[Served], Served | None, tuple[Scores, str | None]]:
        """float32 [n] logits, NaN where the deadline came first, and how many that was in words."""
        served = served_to((yield self._batcher.submit(job)))
        clock.spent(queue=served.queued, rerank=served.running)
        logits = np.array([np.nan if logit is None else logit for logit in served.results], dtype=np.float32)
        return logits, cut_short(served)

    def _fitting(self, lengths: npt.NDArray[np.int64], clock: Clock, put_by: float = 0.0) -> int:
        left = self._left(clock, put_by)
        return len(lengths) if left is None else self._reranker.cost.fitting(lengths, left)

    def _left(self, clock: Clock, put_by: float = 0.0) -> float | None:
        """Seconds of the device that this search may still have, without those `put_by`. Jobs take turns, so each has
        its share."""
        if clock.deadline is None:
            return None
        return (clock.deadline - time.monotonic()) / (1 + self._batcher.waiting_jobs) - put_by


def plan(
    lengths: npt.NDArray[np.int64], reranker: CrossEncoder, finalists: int | None, left: float | None
) -> ReadingPlan:
    """What fits into `left` seconds (None: no limit) of pairs of `lengths` tokens, the first of them first.

    The early exit is taken where it saves time, and reads more candidates than all layers could read.
    """
    fits = len(lengths) if left is None else reranker.cost.fitting(lengths, left)
    early = None if reranker.early is None else reranker.early.cost
    if early is None or finalists is None or not exit_saves(lengths, reranker.cost, early, finalists):
        return ReadingPlan(0, fits)
    if left is None:
        return ReadingPlan(len(lengths), finalists)
    reserve = finalists * float(reranker.cost.each(lengths).mean())
    begun = early.fitting(lengths, left - reserve)
    return ReadingPlan(begun, finalists, reserve) if begun == len(lengths) or begun > fits else ReadingPlan(0, fits)


def cut_short(served: Served) -> str | None:
    """Why a job has no result for some of its sequences, None where it has them all."""
    scored = sum(result is not None for result in served.results)
    if scored == len(served.results):
        return None
    return f"budget: time ran out after {scored} of {len(served.results)} candidates"


def _too_many(fits: int, count: int, left: float) -> str:
    return f"budget: {fits} of {count} candidates fitted into the {max(0.0, left) * 1e3:.0f} ms left"
