"""Which form the vectors take on a GPU: decided by their size and the memory that is left for them."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

GpuKind = Literal["scan", "flat", "ivf-flat", "ivf-pq"]
# Vectors compared one and all: half of the 20 ms that recall has, at the 3 TB/s measured on an H100.
EXACT_BYTES = 30_000_000_000
# Code sizes of FAISS's IVF-PQ on a GPU, largest first; 48 bytes are the most whose tables fit without half precision.
CODE_BYTES = (48, 40, 32, 28, 24, 20, 16, 12, 8, 4)
ID_BYTES = 8
PADDING = 16
"""Vectors that are no vectors, a list: it lies in groups of 32, of which the last is half empty on the average."""
SCRATCH_BYTES = 256 * 2**20
"""What FAISS may use between calls; its default is 1.5 GiB."""


class GpuPlan(BaseModel):
    """How the vectors lie on a GPU, and why; `nbytes` without FAISS's scratch memory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: GpuKind
    reason: str
    nbytes: int
    lists: int = 0
    """Clusters of an inverted file."""
    code_bytes: int = 0
    """Of a vector in an IVF-PQ."""

    @property
    def faiss(self) -> bool:
        return self.kind != "scan"

    @property
    def scratch(self) -> int:
        return SCRATCH_BYTES if self.faiss else 0


def inverted_plan(kind: GpuKind, rows: int, dimension: int, *, lists: int, code_bytes: int, reason: str) -> GpuPlan:
    """An inverted file with its ids, centroids and, for codes, their tables."""
    vector, tables = (2 * dimension, 0) if kind == "ivf-flat" else (code_bytes, 4 * 256 * dimension)
    size = rows * (vector + ID_BYTES) + PADDING * lists * vector + 4 * lists * dimension + tables
    return GpuPlan(kind=kind, reason=reason, nbytes=size, lists=lists, code_bytes=code_bytes)


def plan_gpu(rows: int, dimension: int, room: int | None, *, kernels: bool, faiss: bool) -> GpuPlan | str:
    """The best form that `room` bytes hold (None: as many as are wanted), or why there is none, in words.

    kernels: our exact scan can run; faiss: FAISS's GPU indexes can. Exact while that takes less than half of recall's
    time; then an inverted file of half-precision vectors; then of product-quantised ones, whose best are compared
    exactly on the host.
    """
    exact = 2 * rows * dimension
    said = f"{exact / 1e9:.2f} GB of half-precision vectors"
    lists = 2 ** round(math.log2(max(1, 4 * math.sqrt(rows))))
    candidates: list[GpuPlan] = []
    if kernels and (exact <= EXACT_BYTES or not faiss):
        candidates.append(GpuPlan(kind="scan", reason=f"{said}: all are compared, in one pass", nbytes=exact))
    if faiss and not kernels and exact <= EXACT_BYTES:
        candidates.append(GpuPlan(kind="flat", reason=f"{said}: all are compared, by FAISS", nbytes=exact))
    if faiss:
        reason = f"{said}: comparing all would take too long; inverted file"
        candidates.append(inverted_plan("ivf-flat", rows, dimension, lists=lists, code_bytes=0, reason=reason))
        for code in (code for code in CODE_BYTES if dimension % code == 0):
            reason = f"{said} do not fit: inverted file of {code}-byte codes, the best compared exactly on the host"
            candidates.append(inverted_plan("ivf-pq", rows, dimension, lists=lists, code_bytes=code, reason=reason))
    fitting = (plan for plan in candidates if room is None or plan.nbytes + plan.scratch <= room)
    if (best := next(fitting, None)) is not None:
        return best
    if not candidates:
        return "neither our kernels nor FAISS's GPU indexes run here"
    smallest = min(candidates, key=lambda plan: plan.nbytes + plan.scratch)
    needs = (smallest.nbytes + smallest.scratch) / 2**30
    return f"the vectors need {needs:.2f} GiB at least ({smallest.kind}), and {(room or 0) / 2**30:.2f} GiB are left"
