"""Which index a collection gets: decided by its size, with the reason as text."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

# Recall has 20 ms, of which encoding the query takes 5 to 10 on two cores. Times are for 384 dimensions on such a
# machine.
FLAT_BYTES = 20_000_000
"""Vectors searched as they are: 13,000 passages in a millisecond."""
SCAN_BYTES = 250_000_000
"""Vectors whose byte codes (a quarter of this) are scanned, one core for one query: 160,000 passages in 3 to 4 ms."""
FEW_ROWS = 1024
"""Vectors of a segment that are searched as they are whatever is beside them: a tenth of a millisecond."""
# The share of the true 100 nearest that an approximate index must return on its sample. Above the 0.99 that is
# promised, so that questions that were not in the sample get it too; the last 0.005 cost half a millisecond.
TARGET_RECALL = 0.998

Kind = Literal["flat", "scan", "ivf"]
Similarity = Literal["cosine", "dot"]
"""How vectors are compared: both are inner products, and for the cosine the vectors have length 1."""


class Plan(BaseModel):
    """What will be built, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    reason: str
    lists: int = 0
    """Clusters of an inverted file; 0 for exact search."""


class IndexPlan(Plan):
    """What was built, and how good it was found to be: part of a collection's manifest."""

    probes: int = 0
    """Clusters read for one query."""
    largest: float = 0.0
    residual: float = 0.0
    """Of codes: the magnitude coded as 127, and the largest distance of a vector from its code (0: not recorded)."""
    similarity: Similarity = "cosine"
    longest: float = 1.0
    """The length of the longest vector, which bounds what rounding can do to a score."""
    scale: float = 1.0
    """What a score is divided by to count as a cosine in the final order: of dot products the mean square of the
    vectors' lengths, which is the product of two vectors of the usual length and the same direction."""
    recall_at_100: float = 1.0
    """Mean share of the exact 100 nearest among the 100 returned, over the sample."""
    measured_on: str = "exact by construction"


def plan(rows: int, dimension: int, beside: int = 0) -> Plan:
    """The index for `rows` vectors of `dimension`: exact while that meets the budget, then an inverted file.

    beside: vectors of other segments, which are searched for the same question: all together must meet the budget
    An inverted file rather than HNSW: it builds in a minute or two instead of an hour on two cores, needs one byte a
    dimension beside the vectors, opens as a memory map, and with exact refinement reaches the recall that is asked for.
    """
    size = rows * dimension * 4
    total = size + beside * dimension * 4
    said = f"{size / 1e6:.0f} MB of vectors" + (f" beside {(total - size) / 1e6:.0f} MB" if beside else "")
    if total <= FLAT_BYTES or (beside and rows <= FEW_ROWS):
        return Plan(kind="flat", reason=f"{said}: few enough to compare all of them")
    if total <= SCAN_BYTES:
        return Plan(kind="scan", reason=f"{said}: all are compared as bytes and the best exactly, which is exact")
    # 2 sqrt(n) clusters balance the cost of choosing clusters against that of reading them.
    lists = 2 ** round(math.log2(2 * math.sqrt(rows)))
    reason = f"{said}: beyond {SCAN_BYTES / 1e6:.0f} MB comparing all would miss the budget"
    return Plan(kind="ivf", reason=f"{reason}; inverted file of bytes, the best compared exactly", lists=lists)
