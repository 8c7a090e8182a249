"""Searches of one micro-batch on the device.

A lone query with the exact scan is one CUDA graph from its ids to its final order. Several queries share one recall,
and are reranked in groups as large as the largest buffer holds. Where FAISS recalls, it stands between two graphs.

How many tokens 100 pairs have is known on the device only, after recall, and asking would cost a round trip. So a
buffer is guessed from the passages' mean length, large enough in all but one of a thousand searches; what the pairs
really needed comes down with the result, and where it was more the rerank is run again in a buffer that holds it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from ...kernels.scan import MAX_K, MAX_QUERIES
from ..models.runtime.packed import BUCKETS, bucket_for
from ..platform.device_errors import translated
from ..text.tokens import TokenBatch
from .buffers import Parts
from .graphs import Graphs
from .queries import PipelineOutput, Queries, found
from .recall_step import RecallStep
from .rerank_step import RerankStep

# Kept of each query where no more is asked for; the whole order of the candidates comes down otherwise.
KEPT = 16
SIGMAS = 3.0
# Different numbers of candidates that get graphs of their own, first come, first served. Capturing takes the device for
# a second or so, and who asks for 1, 2, 3 … candidates would have it do nothing else; further ones go stage by stage.
SHAPES = 8


class Finder(Protocol):
    """Recall in place of the scan."""

    def nearest(self, vectors: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores float32 [n, k] and rows int64 [n, k] for float32 [n, d] on the same device; -inf and -1 for none."""
        ...

    def products(self, vectors: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """float32 [n, l]: of float32 [n, d] with the vectors of rows int64 [n, l], which may be -1 for none."""
        ...


class Pipeline:
    """One thread at a time: buffers and graphs are used again."""

    def __init__(self, parts: Parts, finder: Finder | None = None) -> None:
        """`finder` recalls in place of the scan."""
        self.parts = parts
        self._finder = finder
        self._recalls: Graphs[RecallStep] = Graphs(parts.device)
        self._reranks: Graphs[RerankStep] = Graphs(parts.device)
        self._wholes: Graphs[tuple[RecallStep, RerankStep]] = Graphs(parts.device)
        self._captures = parts.device.type == "cuda"
        self._shapes: set[int] = set()

    @property
    def passages(self) -> int:
        return len(self.parts.store.tokens)

    def takes(self, candidates: int) -> bool:
        """Whether so many candidates can be searched for here; others go stage by stage."""
        k = min(candidates, self.passages)
        if k > MAX_K:
            return False
        if self._captures and len(self._shapes) < SHAPES:
            self._shapes.add(k)
        return not self._captures or k in self._shapes

    def kept(self, candidates: int, top_k: int) -> int:
        """Hits that come down where `top_k` are wanted: one of two numbers, so that searches share graphs."""
        k = min(candidates, self.passages)
        return min(k, KEPT if top_k <= KEPT else k)

    def search(self, queries: Queries, candidates: int, kept: int) -> list[PipelineOutput | None]:
        """The best `kept` of each query's `candidates`; None where its pairs exceed the largest buffer.

        `candidates` is one that `takes` allows. Raises OutOfMemory or DeviceError (see `device_errors`).
        """
        k = min(candidates, self.passages)
        kept = min(k, kept)
        answers: list[PipelineOutput | None] = []
        with translated(f"searching for {len(queries)} queries"):
            for start in range(0, len(queries), MAX_QUERIES):
                part = queries.select(np.arange(start, min(start + MAX_QUERIES, len(queries))))
                answers += self._search(part, k, kept)
        return answers

    def warm_up(self, candidates: int) -> None:
        """Capture what a lone query, and queries together, with so many candidates will need."""
        self.takes(candidates)
        together = [(1 << power, 12) for power in range(1, MAX_QUERIES.bit_length())]
        for count, length in ((1, 4), (1, 12), (1, 32), (1, 64), *together):
            bounds = np.arange(0, length * count + 1, length)
            query = TokenBatch(np.zeros(length * count, np.int32), bounds, None)
            self.search(Queries(query, query), candidates, KEPT)

    def _search(self, queries: Queries, k: int, kept: int) -> list[PipelineOutput | None]:
        if len(queries) == 1 and self._captures and self._finder is None:
            return [self._whole(queries, k, kept)]
        step = self._recalled(queries, k)
        answers: list[PipelineOutput | None] = []
        for group in self._groups(queries, k):
            answers += self._reranked(queries, step, group, k, kept, None)
        return answers

    def _recalled(self, queries: Queries, k: int) -> RecallStep:
        """Recall of all the queries at once."""
        places, tokens = len(queries), len(queries.encoder.ids)
        if self._captures:
            places = 1 << (places - 1).bit_length()
            tokens = _fitting(tokens)
        finder = self._finder

        def forward(step: RecallStep) -> None:
            step.encode()
            if finder is None:
                step.scan()
                step.unite()

        step, run = self._recalls.get((places, tokens, k), lambda: RecallStep(self.parts, places, tokens, k), forward)
        step.write(queries.encoder, queries.listed)
        run()
        if finder is not None:
            cosines, rows = finder.nearest(step.vectors[: len(queries)], k)
            step.near[0][: len(queries)], step.near[1][: len(queries)] = cosines, rows
            step.unite(finder.products(step.vectors, step.listed.tensor) if self.parts.words else None)
        return step

    def _reranked(
        self,
        queries: Queries,
        recalled: RecallStep,
        group: npt.NDArray[np.int64],
        k: int,
        kept: int,
        tokens: int | None,
    ) -> list[PipelineOutput | None]:
        """Rerank the queries `group` in a buffer of `tokens` (None: as guessed)."""
        some = queries.select(group)
        tokens = tokens or self._guess(some, k, recalled, group)
        places = 1 << (len(group) - 1).bit_length() if self._captures else len(group)
        step, run = self._reranks.get(
            (places, k, kept, tokens), lambda: self._rerank_step(places, k, kept, tokens), RerankStep.run
        )
        step.found.take(recalled.found, slice(group[0], group[-1] + 1))
        step.write(some.reranker, some.terms)
        run()
        out = step.out[: len(group)].cpu().numpy()
        if (needed := int(out[0, -1])) <= step.tokens:
            return [found(row, kept) for row in out]
        if (bucket := bucket_for(needed, 1)) is not None or not self._captures:
            larger = needed if bucket is None or not self._captures else bucket.tokens
            return self._reranked(queries, recalled, group, k, kept, larger)
        if len(group) == 1:
            return [None]
        halves = np.array_split(group, 2)
        return [each for half in halves for each in self._reranked(queries, recalled, half, k, kept, None)]

    def _whole(self, queries: Queries, k: int, kept: int) -> PipelineOutput | None:
        """One query, recall and rerank in one graph."""
        encoder_tokens, tokens = _fitting(len(queries.encoder.ids)), self._guess(queries, k)

        def make() -> tuple[RecallStep, RerankStep]:
            recall = RecallStep(self.parts, 1, encoder_tokens, k)
            return recall, self._rerank_step(1, k, kept, tokens, recall)

        def forward(steps: tuple[RecallStep, RerankStep]) -> None:
            steps[0].encode()
            steps[0].scan()
            steps[0].unite()
            steps[1].run()

        (recall, rerank), run = self._wholes.get((encoder_tokens, k, kept, tokens), make, forward)
        recall.write(queries.encoder, queries.listed)
        rerank.write(queries.reranker, queries.terms)
        run()
        out = rerank.out[0].cpu().numpy()
        if (needed := int(out[-1])) <= tokens:
            return found(out, kept)
        if (bucket := bucket_for(needed, 1)) is None:
            return None
        return self._reranked(queries, recall, np.array([0]), k, kept, bucket.tokens)[0]

    def _rerank_step(
        self, queries: int, k: int, kept: int, tokens: int, recall: RecallStep | None = None
    ) -> RerankStep:
        return RerankStep(self.parts, queries, k, kept, tokens, recall=recall)

    def _groups(self, queries: Queries, k: int) -> Iterator[npt.NDArray[np.int64]]:
        """Neighbouring queries whose pairs together are expected to fit into the largest buffer."""
        if not self._captures:
            yield np.arange(len(queries))
            return
        each = self._expected(queries.reranker.lengths, k)
        start, total = 0, 0.0
        for place, tokens in enumerate(each):
            if place > start and total + tokens > BUCKETS[-1].tokens:
                yield np.arange(start, place)
                start, total = place, 0.0
            total += float(tokens)
        yield np.arange(start, len(queries))

    def _expected(self, query_lengths: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.float64]:
        """float64 [n]: tokens of each query's k pairs, all but certainly not more."""
        form = self.parts.form
        mean, deviation = self.parts.store.lengths
        room = sum(form.parts) + form.room
        pair = np.minimum(sum(form.parts) + query_lengths + mean, room)
        return np.asarray(k * pair + SIGMAS * deviation * math.sqrt(k), dtype=np.float64)

    def _guess(
        self, queries: Queries, k: int, recalled: RecallStep | None = None, group: npt.NDArray[np.int64] | None = None
    ) -> int:
        """Tokens of the buffer to try first; without graphs what the pairs need at most, since asking costs nothing."""
        if self._captures or recalled is None or group is None:
            expected = int(self._expected(queries.reranker.lengths, k).sum())
            return _fitting(min(expected, BUCKETS[-1].tokens))
        offsets = self.parts.store.tokens.offsets
        rows = recalled.found.rows[group].clamp(min=0)
        lengths = (offsets[rows + 1] - offsets[rows]).numpy() + queries.reranker.lengths[:, None]
        form = self.parts.form
        return max(1, int((sum(form.parts) + np.minimum(lengths, form.room)).sum()))


def _fitting(tokens: int) -> int:
    bucket = bucket_for(tokens, 1)
    return tokens if bucket is None else bucket.tokens
