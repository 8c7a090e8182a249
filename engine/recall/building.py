"""Build what was planned, and measure it against exact search."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..platform.npy import open_array
from . import int8_codes, ivf, scan
from .exact import Floats, Rows
from .index import CODES, INVERTED, VECTORS, Index
from .neighbour_sample import NeighbourSample
from .planning import IndexPlan, Plan, Similarity
from .tuning import tune
from .vector_lengths import VectorLengths

Progress = Callable[[int, int | None, str], None]


def build(
    folder: Path,
    plan: Plan,
    queries: Floats,
    *,
    similarity: Similarity = "cosine",
    threads: int | None = None,
    progress: Progress,
) -> IndexPlan:
    """Build `plan` over `folder`'s vectors.npy, and measure recall@100 with sample `queries` (float32 [m, d]).

    The clusters read for a query start at a 32nd, which costs a millisecond at a million passages and guards against a
    sample that is too easy; they grow until the sample finds `TARGET_RECALL` of what exact search finds. The sample
    stays beside the index, also of a scan, which needs none: on a GPU the vectors may be searched by another index.
    """
    vectors = open_array(folder / VECTORS, np.float32, 2)
    lengths = VectorLengths() if similarity == "cosine" else VectorLengths.of(vectors)
    said = plan.model_dump() | {"similarity": similarity, "longest": lengths.longest, "scale": lengths.square}
    if plan.kind == "flat":
        return IndexPlan(**said)
    progress(0, None, "searching a sample exactly")
    sample = NeighbourSample.of(vectors, queries, lengths.longest)
    if len(queries):
        sample.write(folder)
    if plan.kind == "scan":
        codes_index, largest, residual = scan.build(vectors, progress)
        int8_codes.write(codes_index, folder / CODES)
        return IndexPlan(**said, largest=largest, residual=residual)
    threads = threads or len(os.sched_getaffinity(0))
    progress(0, None, "clustering")
    index = ivf.train(vectors, plan.lists, threads=threads)
    largest, residual = ivf.fill(index, vectors, progress)
    int8_codes.write(index, folder / INVERTED)
    del index
    progress(0, None, "measuring recall")
    probes = max(4, plan.lists // 32)
    coding = int8_codes.Coding(largest, residual, lengths.longest)
    finder = ivf.Ivf.open(folder / INVERTED, coding, probes=probes, threads=threads)
    reached = tune(_Ranked(vectors, finder, lengths.longest), sample)
    measured = f"{len(queries)} sample queries against exact search over {len(vectors)} passages"
    return IndexPlan(
        **said, probes=finder.probes, largest=largest, residual=residual, recall_at_100=round(reached, 4),
        measured_on=measured,
    )  # fmt: skip


class _Ranked:
    """An inverted file with the exact ranking that `Index` puts behind it, to be tuned."""

    def __init__(self, vectors: Floats, finder: ivf.Ivf, longest: float) -> None:
        self._finder = finder
        self._index = Index(vectors, finder, longest)
        self.lists = finder.lists

    @property
    def probes(self) -> int:
        return self._finder.probes

    @probes.setter
    def probes(self, probes: int) -> None:
        self._finder.probes = probes

    def search(self, queries: Floats, k: int) -> tuple[Floats, Rows]:
        return self._index.search(queries, k)
