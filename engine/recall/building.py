"""Build what was planned, and measure it against exact search."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..arrays import open_array
from ..files import sync_file
from . import codes, exact, inverted, scan
from .exact import Floats, Rows
from .index import CODES, INVERTED, VECTORS, Index
from .planning import TARGET_RECALL, IndexPlan, Plan

Progress = Callable[[int, int | None, str], None]
DEPTH = 100


def build(folder: Path, plan: Plan, queries: Floats, *, threads: int | None = None, progress: Progress) -> IndexPlan:
    """Build `plan` over `folder`'s vectors.npy, and measure recall@100 with sample `queries` (float32 [m, d]).

    The clusters read for a query start at a 32nd, which costs a millisecond at a million passages and guards against a
    sample that is too easy; they grow until the sample finds `TARGET_RECALL` of what exact search finds.
    """
    if plan.kind == "flat":
        return IndexPlan(**plan.model_dump())
    vectors = open_array(folder / VECTORS, np.float32, 2)
    if plan.kind == "scan":
        codes_index, largest, residual = scan.build(vectors, progress)
        codes.write(codes_index, folder / CODES)
        sync_file(folder / CODES)
        return IndexPlan(**plan.model_dump(), largest=largest, residual=residual)
    threads = threads or len(os.sched_getaffinity(0))
    progress(0, None, "clustering")
    index = inverted.train(vectors, plan.lists, threads=threads)
    largest, residual = inverted.fill(index, vectors, progress)
    codes.write(index, folder / INVERTED)
    del index
    sync_file(folder / INVERTED)
    progress(0, None, "measuring recall")
    depth = min(DEPTH, len(vectors))
    _, truth = exact.search(vectors, queries, depth)
    probes, recall = _tune(
        vectors,
        inverted.Inverted.open(
            folder / INVERTED, probes=max(4, plan.lists // 32), largest=largest, residual=residual, threads=threads
        ),
        queries,
        truth,
    )
    measured = f"{len(queries)} sample queries against exact search over {len(vectors)} passages"
    return IndexPlan(
        **plan.model_dump(), probes=probes, largest=largest, residual=residual, recall_at_100=round(recall, 4),
        measured_on=measured,
    )  # fmt: skip


def _tune(vectors: Floats, index: inverted.Inverted, queries: Floats, truth: Rows) -> tuple[int, float]:
    """The fewest probes, in steps of a factor of 1.4, that reach the target, and the recall they reach."""
    while True:
        _, found = Index(vectors, index).search(queries, truth.shape[1])
        reached = recall(found, truth)
        if reached >= TARGET_RECALL or index.probes >= index.lists:
            return index.probes, reached
        index.probes = min(index.lists, int(index.probes * 1.4) + 1)


def recall(found: Rows, truth: Rows) -> float:
    """Mean share of the rows in `truth` (int64 [m, k]) that are in `found` (int64 [m, k])."""
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth, strict=True)]))
