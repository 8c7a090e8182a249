"""The same vectors as a collection has them after many changes: in segments, some of them deleted."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np

from ...engine.collection.report import Progress
from ...engine.platform.npy import ArrayWriter
from ...engine.recall import Index, Part, RowMask, SegmentedIndex, build, plan
from ...engine.recall.index import VECTORS
from ...engine.recall.neighbour_sample import DEPTH, NeighbourSample
from .other_indexes import Floats, OtherIndex

SEGMENTS = 8
DELETED = 0.1
SEED = 11


def segmented(
    folder: Path, vectors: Floats, queries: Floats, tuning: Floats, threads: int, progress: Progress
) -> tuple[OtherIndex, NeighbourSample]:
    """An index over SEGMENTS segments of `vectors` (float32 [n, d]), of which a share of DELETED is deleted; and what
    is nearest to `queries` among the others.

    Each segment is half as large as the one before it, as one that grew by additions and merges.
    """
    shares = 0.5 ** np.arange(1, SEGMENTS + 1)
    bounds = [0, *(len(vectors) * np.cumsum(shares / shares.sum())).astype(int).tolist()]
    live = np.random.default_rng(SEED).random(len(vectors)) >= DELETED
    parts: list[Part] = []
    kinds: Counter[str] = Counter()
    for start, stop in pairwise(bounds):
        own = folder / f"segment-{len(parts)}"
        own.mkdir()
        writer = ArrayWriter(own / VECTORS, np.float32, vectors.shape[1:])
        writer.append(vectors[start:stop])
        writer.close()
        planned = plan(stop - start, vectors.shape[1], start)
        sample = np.empty((0, vectors.shape[1]), np.float32) if planned.kind == "flat" else tuning
        built = build(own, planned, sample, threads=threads, progress=progress)
        kinds[built.kind] += 1
        parts.append(Part(Index.open(own, built, threads=threads), RowMask(live[start:stop])))
    index = SegmentedIndex(parts, vectors.shape[1])
    rows = np.flatnonzero(live)
    nearest = NeighbourSample.of(vectors[rows], queries)
    truth = NeighbourSample(queries, rows[nearest.truth[:, :DEPTH]])
    said = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    settings = f"{SEGMENTS} segments ({said}), {DELETED:.0%} deleted"
    return OtherIndex(lambda query, k: index.search(query[None], k)[1][0], None, settings), truth
