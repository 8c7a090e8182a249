"""Which index a collection gets: decided by its size, with the reason as text."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

# Exact search reads every vector. Two cores of a server read some 20 GB/s: 160 MB take 8 to 10 ms, which with a
# query's encoding stays under the 20 ms that recall has. 160 MB are 104,000 passages of 384 dimensions.
EXACT_BYTES = 160_000_000
# The share of the true 100 nearest that an approximate index must return on its sample. Above the 0.99 that is
# promised, so that questions that were not in the sample get it too; the last 0.005 cost half a millisecond.
TARGET_RECALL = 0.998

Kind = Literal["flat", "ivf"]


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
    recall_at_100: float = 1.0
    """Mean share of the exact 100 nearest among the 100 returned, over the sample."""
    measured_on: str = "exact by construction"


def plan(rows: int, dimension: int) -> Plan:
    """The index for `rows` vectors of `dimension`: exact while that meets the budget, then an inverted file.

    An inverted file rather than HNSW: it builds in a minute instead of an hour on two cores, needs 1 byte a dimension
    beside the vectors, opens as a memory map, and with exact refinement reaches the same recall in the time there is.
    """
    size = rows * dimension * 4
    megabytes = f"{size / 1e6:.0f} MB of vectors"
    if size <= EXACT_BYTES:
        return Plan(kind="flat", reason=f"{megabytes}: exact search meets the budget up to {EXACT_BYTES / 1e6:.0f} MB")
    # 2 sqrt(n) clusters balance the cost of choosing clusters against that of reading them.
    lists = 2 ** round(math.log2(2 * math.sqrt(rows)))
    reason = f"{megabytes}: beyond {EXACT_BYTES / 1e6:.0f} MB exact search would miss the budget"
    return Plan(kind="ivf", reason=f"{reason}; inverted file, int8 codes, exact refinement", lists=lists)
