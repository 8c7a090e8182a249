"""The second stage of a search: which candidates the cross-encoder reads, and with how many of its layers.

Where the artifact has an early exit, its first layers read every candidate, and only the finalists, those with the best
fused score by then, are read by all layers. Of six layers with an exit after the third and 20 finalists of 100, five
eighths of the work are left: the exit takes 0.44 of the model's time (its last layer computes little but [CLS]), the
finalists 0.20. How many finalists it takes, and what an exit after the second layer is worth: bench/LOG.md.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .batcher import Batcher
from .budget import exit_saves
from .cross_encoder import CrossEncoder
from .fusion import Fusion, Scores
from .jobs import Job, Served
from .story import Clock, served_to
from .tokens import Ids, TokenBatch

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scored:
    """What the cross-encoder made of candidates, in the order given.

    logits:   float32 [n] after all layers, NaN for a candidate that did not get so far
    early:    float32 [n] after the early exit's layers, likewise
    degraded: why the time did not suffice for all that was to be read, None when it did
    """

    logits: Scores
    early: Scores
    degraded: str | None

    @property
    def finalists(self) -> int:
        """Candidates that all layers read."""
        return int(np.isfinite(self.logits).sum())

    @property
    def reranked(self) -> int:
        """Candidates that some layers read."""
        return int((np.isfinite(self.logits) | np.isfinite(self.early)).sum())

    @classmethod
    def nothing(cls, count: int, degraded: str | None = None) -> Scored:
        """No candidate of `count` was read."""
        return cls(_unknown(count), _unknown(count), degraded)


@dataclass(frozen=True, slots=True)
class Plan:
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
        self,
        query: Ids,
        passages: TokenBatch,
        evidence: Scores,
        count: int,
        finalists: int | None,
        clock: Clock,
        client: str = "",
    ) -> Generator[Future[Served], Served | None, Scored]:
        """Read `count` candidates, or as many as fit into the time left, those with the best evidence first; under the
        pure cross-encoder order, in the order given.

        query: int32 ids without special tokens; passages: the candidates'; evidence: float32 [n], see `Fusion`;
        finalists: candidates that all layers read, None: all of them
        """
        clock.mark()
        asked_at = time.monotonic()
        order = np.argsort(-evidence, kind="stable") if self._fusion.recall_weight else np.arange(len(passages))
        order = order[:count]
        lengths = self._reranker.tokenizer.pair_lengths(query, passages)[order]
        left = self._left(clock)
        chosen = plan(lengths, self._reranker, finalists, left)
        read = order[: chosen.early or chosen.whole]
        degraded = None if len(read) == len(order) else _too_many(len(read), len(order), clock)
        pairs = self._reranker.tokenizer.pairs(query, passages.select(read))
        early = _unknown(len(passages))
        if chosen.early and self._reranker.early is not None:
            deadline = None if clock.deadline is None else clock.deadline - chosen.reserve
            clock.lap("fetch")
            job = Job(self._reranker.early, pairs, deadline=deadline, client=client)
            early[read], cut = yield from self._run(job, clock)
            clock.mark()
            kept = finalists_of(early[read], evidence[read], self._fusion, chosen.whole)
            degraded = degraded or cut
            fits = self._fitting(pairs.lengths[kept], clock)
            if fits < len(kept):
                degraded = degraded or f"budget: {fits} of {len(kept)} finalists fitted into the time left"
            read, pairs = read[kept[:fits]], pairs.select(kept[:fits])
        logits = _unknown(len(passages))
        job = Job(self._reranker, pairs, deadline=clock.deadline, client=client, asked_at=asked_at)
        clock.lap("fetch")
        logits[read], cut = yield from self._run(job, clock)
        return Scored(logits, early, degraded or cut)

    def _run(self, job: Job, clock: Clock) -> Generator[Future[Served], Served | None, tuple[Scores, str | None]]:
        """float32 [n] logits, NaN where the deadline came first, and how many that was in words."""
        served = served_to((yield self._batcher.submit(job)))
        clock.spent(queue=served.queued, rerank=served.running)
        logits = np.array([np.nan if logit is None else logit for logit in served.results], dtype=np.float32)
        return logits, cut_short(served)

    def _fitting(self, lengths: npt.NDArray[np.int64], clock: Clock) -> int:
        left = self._left(clock)
        return len(lengths) if left is None else self._reranker.cost.fitting(lengths, left)

    def _left(self, clock: Clock) -> float | None:
        """Seconds of the device that this search may still have. Jobs take turns, so each has its share."""
        if clock.deadline is None:
            return None
        return (clock.deadline - time.monotonic()) / (1 + self._batcher.waiting_jobs)


def finalists_of(early: Scores, evidence: Scores, fusion: Fusion, count: int) -> Places:
    """int64 [at most count]: places of the best by fused score, best first, of candidates with logits `early` [n] (NaN:
    not read) and `evidence` [n]."""
    known = np.flatnonzero(np.isfinite(early))
    scores = fusion.fuse(early[known], evidence[known])
    return known[np.argsort(-scores, kind="stable")[:count]]


def plan(lengths: npt.NDArray[np.int64], reranker: CrossEncoder, finalists: int | None, left: float | None) -> Plan:
    """What fits into `left` seconds (None: no limit) of pairs of `lengths` tokens, the first of them first.

    The early exit is taken where it saves time, and reads more candidates than all layers could read.
    """
    fits = len(lengths) if left is None else reranker.cost.fitting(lengths, left)
    early = None if reranker.early is None else reranker.early.cost
    if early is None or finalists is None or not exit_saves(lengths, reranker.cost, early, finalists):
        return Plan(0, fits)
    if left is None:
        return Plan(len(lengths), finalists)
    reserve = finalists * float(reranker.cost.each(lengths).mean())
    begun = early.fitting(lengths, left - reserve)
    return Plan(begun, finalists, reserve) if begun == len(lengths) or begun > fits else Plan(0, fits)


def cut_short(served: Served) -> str | None:
    """Why a job has no result for some of its sequences, None where it has them all."""
    scored = sum(result is not None for result in served.results)
    if scored == len(served.results):
        return None
    return f"budget: time ran out after {scored} of {len(served.results)} candidates"


def _too_many(fits: int, count: int, clock: Clock) -> str:
    left = 0.0 if clock.deadline is None else max(0.0, clock.deadline - time.monotonic())
    return f"budget: {fits} of {count} candidates fitted into the {left * 1e3:.0f} ms left"


def _unknown(count: int) -> Scores:
    return np.full(count, np.nan, dtype=np.float32)
