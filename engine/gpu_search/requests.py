"""The engine's side of a pipeline: which searches go there, and what each waits for."""

from __future__ import annotations

import time
from functools import cache

from ..config import SearchSettings
from ..recall.exact import Rows
from ..scheduling.batcher import Batcher
from ..scheduling.job import Job
from ..scheduling.request_steps import Clock
from ..scoring.fusion import Scores
from ..scoring.lexical import Lexicon
from ..text.tokens import Ids
from .pipeline import Pipeline
from .queries import PipelineOutput
from .rerank_step import LONGEST_QUERY
from .search_model import GpuSearch, joined


class Searches:
    """Whole searches on the device thread of `batcher`."""

    def __init__(self, pipeline: Pipeline, lexicon: Lexicon, batcher: Batcher) -> None:
        self._pipeline = pipeline
        self._batcher = batcher
        self._search = cache(lambda candidates, kept: GpuSearch(pipeline, candidates, kept, lexicon))

    def takes(self, settings: SearchSettings, clock: Clock) -> bool:
        """Whether a search can be served here in time: every candidate is read once here, and none is left out or read
        again, which only the thorough want."""
        if (
            not settings.rerank
            or settings.effort == "thorough"
            or settings.per_document
            or settings.filter is not None
            or not self._pipeline.takes(settings.recalled)
        ):
            return False
        seconds = self._model(settings).cost.seconds(1, 1) * (1 + self._batcher.waiting_jobs)
        return clock.deadline is None or time.monotonic() + seconds <= clock.deadline

    async def search(
        self, encoder: Ids, reranker: Ids, words: Ids, listed: tuple[Rows, Scores] | None, settings: SearchSettings,
        clock: Clock, client: str = "",
    ) -> PipelineOutput | None:  # fmt: skip
        """The best candidates of a query, given as each model reads it; None where it exceeds the largest buffer.

        encoder: int32 ids with special tokens; reranker: int32 ids without; words: likewise, without a prompt
        listed: passages that hold the words (see `LexicalIndex.search`); None: it is not known
        """
        if len(reranker) > LONGEST_QUERY:
            return None
        job = Job(self._model(settings), joined(encoder, reranker, words, listed), urgent=True, client=client)
        served = await self._batcher.run(job)
        clock.spent(queue=served.queued, rerank=served.running)
        found: PipelineOutput | None = served.results[0]
        return found

    def _model(self, settings: SearchSettings) -> GpuSearch:
        """The batcher's model for such searches: one for all that can share a micro-batch."""
        return self._search(settings.recalled, self._pipeline.kept(settings.recalled, settings.top_k))
