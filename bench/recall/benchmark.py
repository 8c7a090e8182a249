"""Finding the 100 nearest of many vectors for one query: time, what of the truth is found, and what building costs.

Vectors lie around a collection's own (see `vectors`); queries are real questions. Truth is exact search. The floor is
what the index must read at the rate this machine copies memory: every vector for exact search, every byte code for a
scan, the probed share of the codes for an inverted file. Beside them: what words find, and what they cost (`words`).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...engine.collection.report import Progress
from ...engine.recall import Index, IndexPlan, build, plan
from ...engine.recall.neighbour_sample import DEPTH, NeighbourSample
from ...engine.recall.planning import TARGET_RECALL
from ...engine.recall.tuning import recall as share_found
from .. import roofline
from ..document import Document, Row, Table, document, grid, not_here
from ..setup import Setup
from ..stats import shown, spread
from ..turns import ms_of
from ..workloads import said
from . import segments, words
from .other_indexes import GRAPHS, RECALL_RIVALS, Floats, OtherIndex
from .synthetic_vectors import spread_around

MEASURES = "the 100 nearest of n vectors for one query: milliseconds, recall against exact search, seconds to build"
SEGMENTED = "tandem, segments"
TUNING = 128
"""Questions that indexes are tuned on, not measured on."""


def recall(
    setup: Setup,
    *,
    sizes: Sequence[int],
    sample: int = 100,
    rivals: Sequence[str] = tuple(RECALL_RIVALS),
    graphs_up_to: int = 200_000,
    scratch: Path | None = None,
) -> Iterator[Document]:
    """Each of `sizes` vectors: Tandem's planned index and the rivals; graphs only up to `graphs_up_to` vectors.

    Gives the document anew after each index: building one of millions takes minutes. Not in turns, since not all of
    them fit the memory at once.
    `scratch`: where vectors and indexes are written, some 2 kB a vector. A size that does not fit is left out, said so.
    """
    engine, threads = setup.engine, setup.threads
    asked = setup.workload.questions(sample + TUNING, setup.seed)
    embedded = engine.embed(asked, "query")
    queries, tuning = embedded[:sample], embedded[sample:] if len(embedded) > sample else embedded
    rates = roofline.measure(threads)
    description = setup.described(asked[:sample], [], depth=DEPTH)
    found: dict[str, dict[str, Any]] = {}
    absent: dict[str, str] = {}
    listed = words.found(setup, sample)
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="tandem-recall-", dir=scratch) as name:
            folder = Path(name)
            if reason := _no_room(size, engine.collection.index.dimension, folder):
                absent[f"{size:,} vectors"] = reason
                continue
            setup.progress(0, None, f"{size:,} vectors")
            vectors = spread_around(engine.collection.index.vectors, size, folder, setup.seed)
            asked_of, tuned_on = (NeighbourSample.of(vectors, some) for some in (queries, tuning))
            measured = found.setdefault(str(size), {})
            for index in ("tandem", SEGMENTED, *rivals):
                setup.progress(0, None, f"{size:,} vectors: {index}")
                if index in GRAPHS and size > graphs_up_to:
                    absent[f"{index}, {size:,} vectors"] = f"a graph is built up to {graphs_up_to:,} (--graphs-up-to)"
                    continue
                try:
                    start = time.perf_counter()
                    if index == SEGMENTED:
                        made, truth = segments.segmented(folder, vectors, queries, tuning, threads, setup.progress)
                    else:
                        truth, made = asked_of, (
                            RECALL_RIVALS[index](vectors, threads) if index in RECALL_RIVALS
                            else _ours(folder, vectors, tuning, threads, setup.progress)
                        )  # fmt: skip
                    seconds = time.perf_counter() - start
                    measured[index] = _measured(made, seconds, truth, tuned_on, rates)
                except ImportError as error:
                    absent[index] = str(error)
                yield _document(description, found, rates, absent, listed)
            if listed:
                setup.progress(0, None, f"{size:,} passages: words")
                listed.append(words.made_up(size, folder, sample, setup.seed))
                yield _document(description, found, rates, absent, listed)
    if not found:
        yield _document(description, found, rates, absent, listed)


def _document(
    description: dict[str, Any], found: dict[str, dict[str, Any]], rates: roofline.Rates, absent: dict[str, str],
    listed: list[Row],
) -> Document:  # fmt: skip
    tables = [_table(description, found, rates, absent), *([words.table(listed)] if listed else [])]
    return document(
        "recall", MEASURES, workload=description, tables=tables, rates=rates.to_dict(), sizes=found, absent=absent,
        words=listed,
    )  # fmt: skip


def _ours(folder: Path, vectors: Floats, tuning: Floats, threads: int, progress: Progress) -> OtherIndex:
    """The index that Tandem plans for so many vectors."""
    built = build(folder, plan(*vectors.shape), tuning, threads=threads, progress=progress)
    index = Index.open(folder, built, threads=threads)
    beside = sum(file.stat().st_size for file in folder.iterdir() if file.suffix == ".faiss")
    return OtherIndex(
        lambda query, k: index.search(query[None], k)[1][0], None, _plan(built), read=_read(built, vectors),
        beside=beside,
    )  # fmt: skip


def _measured(
    index: OtherIndex, build_seconds: float, sample: NeighbourSample, tuning: NeighbourSample, rates: roofline.Rates
) -> dict[str, Any]:
    settings = index.settings
    if index.widen is not None:
        settings = f"{settings}, search breadth {_widened(index, tuning)}"
    index.search(sample.queries[0], sample.truth.shape[1])
    ms, reached = _searched(index, sample)
    return {
        "ms": spread(ms), "recall": round(reached, 4), "build_seconds": round(build_seconds, 2), "settings": settings,
        **({} if index.beside is None else {"bytes_beside_vectors": index.beside}),
        **({} if index.read is None else {"floor_ms": round(index.read / rates.copy * 1e3, 3)}),
    }  # fmt: skip


def _searched(index: OtherIndex, sample: NeighbourSample) -> tuple[list[float], float]:
    """Milliseconds of each query, and the recall."""
    found = np.full_like(sample.truth, -1)  # a graph may find fewer than are wanted

    def ask(place: int) -> None:
        rows = index.search(sample.queries[place], found.shape[1])
        found[place, : len(rows)] = rows

    ms = [ms_of(partial(ask, place)) for place in range(len(found))]
    return ms, share_found(found, sample.truth)


def _widened(index: OtherIndex, tuning: NeighbourSample) -> int:
    """The least of the index's breadths that finds TARGET_RECALL on the tuning questions, or the largest."""
    assert index.widen is not None
    for breadth in index.breadths:
        index.widen(breadth)
        if _searched(index, tuning)[1] >= TARGET_RECALL:
            break
    return breadth


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
    rows = [
        {
            "vectors": f"{int(size):,}", "index": name, "ms, median (quartiles)": shown(each["ms"]),
            "p95": each["ms"]["p95"], f"recall@{DEPTH}": f"{each['recall']:.4f}", "floor ms": each.get("floor_ms"),
            "build s": each["build_seconds"], "settings": each["settings"],
        }
        for size, systems in found.items() for name, each in systems.items()
    ]  # fmt: skip
    notes = [
        f"queries: {said(workload)}; vectors lie around that collection's own; graphs search with one thread",
        rates.note() + "; the floor reads from memory, so what fits into the cache may go below",
        *(f"{int(size):,}: {name} is faster than Tandem, at a recall of {each['recall']:.4f}"
          for size, systems in found.items() for name, each in systems.items()
          if not name.startswith("tandem") and each["ms"]["p50"] < systems["tandem"]["ms"]["p50"]
          and each["recall"] >= TARGET_RECALL),
        *not_here(absent),
    ]  # fmt: skip
    return grid("Recall: the 100 nearest vectors of one query", rows, notes)
