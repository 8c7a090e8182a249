"""Finding the 100 nearest of many vectors for one query: time, what of the truth is found, and what building costs.

Vectors lie around a collection's own (see `vectors`); queries are real questions. Truth is exact search. The floor is
what the index must read at the rate this machine copies memory: every vector for exact search, every byte code for a
scan, the probed share of the codes for an inverted file.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...engine.collection.report import Progress
from ...engine.recall import Index, IndexPlan, build, plan
from ...engine.recall.exact import search as exact
from ...engine.recall.planning import TARGET_RECALL
from .. import roofline
from ..document import Document, Table, document
from ..setup import Setup
from ..stats import shown, spread
from ..workloads import said
from .other_indexes import GRAPHS, RECALL_RIVALS, OtherIndex
from .synthetic_vectors import spread_around

MEASURES = "the 100 nearest of n vectors for one query: milliseconds, recall against exact search, seconds to build"
DEPTH = 100
TUNING = 128
"""Questions that indexes are tuned on, not measured on."""
Floats = npt.NDArray[np.float32]


def recall(
    setup: Setup,
    *,
    sizes: Sequence[int],
    sample: int = 100,
    rivals: Sequence[str] = tuple(RECALL_RIVALS),
    graphs_up_to: int = 200_000,
    scratch: Path | None = None,
) -> Document:
    """Each of `sizes` vectors: Tandem's planned index and the rivals; graphs only up to `graphs_up_to` vectors.

    `scratch`: where vectors and indexes are written, some 2 kB a vector. A size that does not fit is left out, said so.
    """
    engine, threads, progress = setup.engine, setup.threads, setup.progress
    asked = setup.workload.questions(sample + TUNING, setup.seed)
    embedded = engine.embed(asked)
    queries, tuning = embedded[:sample], embedded[sample:] if len(embedded) > sample else embedded
    rates = roofline.measure(threads)
    found: dict[str, dict[str, Any]] = {}
    absent: dict[str, str] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="tandem-recall-", dir=scratch) as name:
            folder = Path(name)
            if reason := _no_room(size, engine.collection.index.dimension, folder):
                absent[f"{size:,} vectors"] = reason
                continue
            progress(0, None, f"{size:,} vectors")
            vectors = spread_around(engine.collection.index.vectors, size, folder, setup.seed)
            truth = exact(vectors, queries, min(DEPTH, size))[1]
            tuned = exact(vectors, tuning, min(DEPTH, size))[1]
            measured = {"tandem": _ours(folder, vectors, queries, truth, tuning, threads, rates, progress)}
            for rival in rivals:
                progress(0, None, f"{size:,} vectors: {rival}")
                if rival in GRAPHS and size > graphs_up_to:
                    absent[f"{rival}, {size:,} vectors"] = f"a graph is built up to {graphs_up_to:,} (--graphs-up-to)"
                    continue
                try:
                    measured[rival] = _theirs(rival, vectors, queries, truth, tuning, tuned, threads, rates)
                except ImportError as error:
                    absent[rival] = str(error)
            found[str(size)] = measured
    description = setup.described(asked[:sample], [], depth=DEPTH)
    return document(
        "recall", MEASURES, workload=description, tables=[_table(description, found, rates, absent)],
        rates=rates.to_dict(), sizes=found, absent=absent,
    )  # fmt: skip


def _ours(
    folder: Path, vectors: Floats, queries: Floats, truth: Any, tuning: Floats, threads: int, rates: roofline.Rates,
    progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    start = time.perf_counter()
    built = build(folder, plan(*vectors.shape), tuning, threads=threads, progress=progress)
    seconds = time.perf_counter() - start
    index = Index.open(folder, built, threads=threads)
    found = _measure(lambda query, k: index.search(query[None], k)[1][0], queries, truth)
    extra = sum(file.stat().st_size for file in folder.iterdir() if file.suffix == ".faiss")
    return {
        **found, "build_seconds": round(seconds, 2), "bytes_beside_vectors": extra, "settings": _plan(built),
        "floor_ms": round(_read(built, vectors) / rates.copy * 1e3, 3),
    }  # fmt: skip


def _theirs(
    name: str, vectors: Floats, queries: Floats, truth: Any, tuning: Floats, tuned: Any, threads: int,
    rates: roofline.Rates,
) -> dict[str, Any]:  # fmt: skip
    start = time.perf_counter()
    finder = RECALL_RIVALS[name](vectors, threads)
    seconds = time.perf_counter() - start
    settings = finder.settings
    if finder.widen is not None:
        settings = f"{settings}, search breadth {_widened(finder, tuning, tuned)}"
    found = _measure(finder.search, queries, truth)
    least = {} if finder.read is None else {"floor_ms": round(finder.read / rates.copy * 1e3, 3)}
    return {**found, "build_seconds": round(seconds, 2), "settings": settings, **least}


def _widened(finder: OtherIndex, tuning: Floats, tuned: Any) -> int:
    """The least of the finder's breadths that finds TARGET_RECALL on the tuning questions, or the largest."""
    assert finder.widen is not None
    for breadth in finder.breadths:
        finder.widen(breadth)
        if _share([finder.search(query, tuned.shape[1]) for query in tuning], tuned) >= TARGET_RECALL:
            break
    return breadth


def _measure(search: Callable[[Floats, int], Any], queries: Floats, truth: Any) -> dict[str, Any]:
    rows, taken = [], []
    search(queries[0], truth.shape[1])
    for query in queries:
        start = time.perf_counter()
        rows.append(search(query, truth.shape[1]))
        taken.append((time.perf_counter() - start) * 1e3)
    return {"ms": spread(taken), "recall": round(_share(rows, truth), 4)}


def _share(found: Sequence[Any], truth: Any) -> float:
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth, strict=True)]))


def _read(built: IndexPlan, vectors: Floats) -> float:
    """Bytes that a search of this plan cannot avoid to read."""
    if built.kind == "flat":
        return float(vectors.size * 4)
    return vectors.size * (1.0 if built.kind == "scan" else built.probes / built.lists)


def _plan(built: IndexPlan) -> str:
    return f"{built.kind}, {built.probes} of {built.lists} clusters" if built.lists else built.kind


def _no_room(size: int, dimension: int, folder: Path) -> str | None:
    """Why `size` vectors cannot be measured here: disk for vectors and codes, memory for an exact copy's pages."""
    need = size * dimension * 5.5
    if need > (free := shutil.disk_usage(folder).free):
        return f"needs {need / 1e9:.0f} GB of disk, {free / 1e9:.0f} are free"
    available = next(
        (int(line.split()[1]) * 1024 for line in Path("/proc/meminfo").read_text().splitlines()
         if line.startswith("MemAvailable")), 0,
    )  # fmt: skip
    if size * dimension * 5 > available:
        return f"needs {size * dimension * 5 / 1e9:.0f} GB of memory, {available / 1e9:.0f} are free"
    return None


def _table(
    workload: dict[str, Any], found: dict[str, dict[str, Any]], rates: roofline.Rates, absent: dict[str, str]
) -> Table:
    rows: list[list[Any]] = []
    for size, systems in found.items():
        for name, each in systems.items():
            floor_ms = each.get("floor_ms")
            rows.append([f"{int(size):,}", name, shown(each["ms"]), each["ms"]["p95"], f"{each['recall']:.4f}",
                         floor_ms, each["build_seconds"], each["settings"]])  # fmt: skip
    notes = [
        f"queries: {said(workload)}; vectors lie around that collection's own; graphs search with one thread",
        rates.note() + "; the floor reads from memory, so what fits into the cache may go below",
        *(f"{int(size):,}: {name} is faster than Tandem, at a recall of {each['recall']:.4f}"
          for size, systems in found.items() for name, each in systems.items()
          if name != "tandem" and each["ms"]["p50"] < systems["tandem"]["ms"]["p50"]
          and each["recall"] >= TARGET_RECALL),
        *(f"{name} is not here: {reason}" for name, reason in absent.items()),
    ]  # fmt: skip
    columns = [
        "vectors",
        "index",
        "ms, median (quartiles)",
        "p95",
        f"recall@{DEPTH}",
        "floor ms",
        "build s",
        "settings",
    ]
    return Table("Recall: the 100 nearest vectors of one query", columns, rows, notes)
