"""How many clusters an inverted file reads for a query: as few as find what exact search finds."""

from __future__ import annotations

import logging
from typing import Protocol

import numpy as np

from .exact import Floats, Rows
from .neighbour_sample import NeighbourSample
from .planning import TARGET_RECALL

log = logging.getLogger(__name__)
# Where the target is out of reach (product-quantised codes have a ceiling): recall that is not worth more clusters.
_SLIGHT = 0.001


class Tunable(Protocol):
    """An index that reads `probes` of its `lists` clusters for a query; what it is set to may be capped."""

    probes: int

    @property
    def lists(self) -> int: ...

    def search(self, queries: Floats, k: int, /) -> tuple[Floats, Rows]: ...


def tune(index: Tunable, sample: NeighbourSample) -> float:
    """Set the fewest probes that reach `TARGET_RECALL` on the sample, and return the recall that they reach.

    They grow from what they are by steps of a factor of 1.4. Where none suffice, the log warns, and the fewest are set
    whose recall is the best but for a thousandth.
    """
    tried: dict[int, float] = {}
    while index.probes not in tried:
        tried[index.probes] = reached = recall(index.search(sample.queries, sample.truth.shape[1])[1], sample.truth)
        if reached >= TARGET_RECALL:
            return reached
        index.probes = min(index.lists, int(index.probes * 1.4) + 1)
    best = max(tried.values())
    index.probes = next(probes for probes, reached in tried.items() if reached >= best - _SLIGHT)
    log.warning(
        "the index finds %.3f of the %d nearest at %d probes, below the %.3f aimed at, and more do not help",
        tried[index.probes], sample.truth.shape[1], index.probes, TARGET_RECALL,
    )  # fmt: skip
    return tried[index.probes]


def recall(found: Rows, truth: Rows) -> float:
    """Mean share of the rows in `truth` (int64 [m, k]) that are in `found` (int64 [m, k])."""
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth, strict=True)]))
