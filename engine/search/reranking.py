"""The second stage of a search: which candidates the cross-encoder reads, and with how many of its layers.

How many it is to read is the search's `RerankDepth`. What of that fits into the time left is reckoned by the cost
model, in the order in which reading was measured to help (bench/LOG.md): LEAST_READ candidates, then the best of them
again, then more candidates.

Where the artifact has an early exit and many are to be read, its first layers read all of these, and only the
finalists, those with the best fused score by then, are read by all layers. Of six layers with an exit after the third
and 30 finalists of 100, three quarters of the work are left: the exit takes 0.44 of the model's time (its last layer
computes little but [CLS]), the finalists 0.30.

The best of what all layers read are read once more (see `rereading`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..models.cross_encoder import CrossEncoder
from ..result import Degraded, DegradedCode
from ..scheduling.batcher import Batcher
from ..scheduling.cost_model import exit_saves
from ..scheduling.job import Job
from ..scoring.effort import RerankDepth
from ..scoring.fusion import Fusion, Places, Scored, Scores, best_of
from ..text.tokens import TokenBatch
from .candidates import Candidates
from .rereading import Rereading

# As many with the best evidence have, within a point, what all have (bench/LOG.md): fewer are not read for the sake of
# reading some again.
LEAST_READ = 8


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
        self._rereading = Rereading(reranker, fusion, batcher)

    async def score(self, candidates: Candidates, depth: RerankDepth) -> tuple[Scored, Degraded | None]:
        """Read to the `depth`, or as far as the time goes: the candidates with the best evidence first, under the pure
        cross-encoder order those that recall put first. And what of it time left undone.

        Time for reading some again is put by where LEAST_READ are read besides.
        """
        candidates.clock.mark()
        everyone = np.arange(len(candidates.passages))
        order = np.argsort(-candidates.evidence, kind="stable") if self._fusion.recall_weight else everyone
        order = order[: depth.of(len(order))]
        lengths = self._reranker.tokenizer.pair_lengths(candidates.query, candidates.passages)[order]
        again = depth.reread
        put_by = self._rereading.seconds(candidates, order, again) if again else 0.0
        if put_by and self._fitting(lengths, candidates, put_by) < min(max(again, LEAST_READ), len(order)):
            put_by = 0.0
        scored = Scored.nothing(len(everyone))
        plan = reading_plan(lengths, self._reranker, depth.finalists, self._left(candidates, put_by))
        await self._read(candidates, scored, order[: plan.early or plan.whole], plan)
        if again and scored.finalists:
            await self._rereading.read(candidates, scored, again)
        wanted = min(plan.whole, len(order)) if plan.early else len(order)
        planned = min(plan.early or plan.whole, len(order))
        return scored, undone(scored, read=len(order), planned=planned, finalists=wanted, reread=min(again, wanted))

    async def _read(self, candidates: Candidates, scored: Scored, read: Places, plan: ReadingPlan) -> None:
        """Read the passages at `read` whole, by the early exit first where the `plan` has one."""
        clock, early = candidates.clock, self._reranker.early
        pairs = self._reranker.tokenizer.pairs(candidates.query, candidates.passages.select(read))
        if plan.early and early is not None:
            deadline = None if clock.deadline is None else clock.deadline - plan.reserve
            clock.lap("fetch")
            begun = await self._run(Job(early, pairs, deadline=deadline, client=candidates.client), candidates)
            layer = self._reranker.artifact.manifest.early or 0
            scored.early[read] = self._fusion.scale.after_exit(layer, begun, candidates.evidence[read])
            clock.mark()
            best = best_of(scored.early[read], candidates.evidence[read], self._fusion, plan.whole)
            best = best[: self._fitting(pairs.lengths[best], candidates)]
            read, pairs = read[best], pairs.select(best)
        clock.lap("fetch")
        scored.logits[read] = await self._run(_job(self._reranker, pairs, candidates), candidates)

    async def _run(self, job: Job, candidates: Candidates) -> Scores:
        """float32 [n] logits, NaN where the deadline came first."""
        served = await self._batcher.run(job)
        candidates.clock.spent(queue=served.queued, rerank=served.running)
        return served.logits

    def _fitting(self, lengths: npt.NDArray[np.int64], candidates: Candidates, put_by: float = 0.0) -> int:
        return self._reranker.cost.fitting(lengths, self._left(candidates, put_by))

    def _left(self, candidates: Candidates, put_by: float = 0.0) -> float | None:
        """Seconds of the device that this search may still have, without those `put_by`."""
        left = self._batcher.time_left(candidates.clock.deadline)
        return None if left is None else left - put_by


def _job(reranker: CrossEncoder, pairs: TokenBatch, candidates: Candidates) -> Job:
    """All layers on `pairs`: a search that was begun is finished first."""
    deadline = candidates.clock.deadline
    return Job(reranker, pairs, deadline=deadline, client=candidates.client, asked_at=candidates.asked_at)


def reading_plan(
    lengths: npt.NDArray[np.int64], reranker: CrossEncoder, finalists: int | None, left: float | None
) -> ReadingPlan:
    """What fits into `left` seconds (None: no limit) of pairs of `lengths` tokens, the first of them first.

    The early exit is taken where it saves time, and reads more candidates than all layers could read.
    """
    fits = reranker.cost.fitting(lengths, left)
    early = None if reranker.early is None else reranker.early.cost
    if early is None or finalists is None or not exit_saves(lengths, reranker.cost, early, finalists):
        return ReadingPlan(0, fits)
    if left is None:
        return ReadingPlan(len(lengths), finalists)
    reserve = finalists * float(reranker.cost.each(lengths).mean())
    begun = early.fitting(lengths, left - reserve)
    return ReadingPlan(begun, finalists, reserve) if begun == len(lengths) or begun > fits else ReadingPlan(0, fits)


def undone(scored: Scored, *, read: int, planned: int, finalists: int, reread: int) -> Degraded | None:
    """What of the wish was not read, by what was read: `read` candidates, `finalists` of them by all layers, `reread`
    of these again. `planned`: how many candidates fitted before any was read."""
    if scored.reranked < read:
        code: DegradedCode = "cut_short" if scored.reranked < planned else "fewer_candidates"
        return Degraded(code, f"budget: {scored.reranked} of {read} candidates were reranked in time")
    if scored.finalists < finalists:
        said = f"budget: {scored.finalists} of {finalists} finalists were read by all layers in time"
        return Degraded("fewer_finalists", said)
    if scored.reread < reread:
        return Degraded("fewer_reread", f"budget: {scored.reread} of the {reread} best were read again in time")
    return None
