"""Documents that are added one by one and in batches, and deleted, while somebody searches all the time.

Every system gets the same texts and vectors, and starts from the same collection. An add is over when the call has
returned and a search finds the document. Nothing is encoded in it: that costs what `bench index` says.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...engine.models.encoder import BiEncoder
from ..document import Document, Row, grid, not_here
from ..document import document as documented
from ..setup import Setup
from ..stats import spread
from ..turns import Unavailable
from ..workloads import model_names, read_texts
from .stores import RIVALS, Floats, LiveStore, Tandem

MEASURES = "milliseconds until an added document is durable and found, documents a second, and searches meanwhile"
K = 10
QUIET = 200
"""Searches before anything is written."""


@dataclass(slots=True)
class Measured:
    """Milliseconds of adds of one document and of batches, of deletes, of searches before and meanwhile; how many adds
    and deletes a search did not notice when the call had returned."""

    single: list[float] = field(default_factory=list)
    batch: list[float] = field(default_factory=list)
    deleted: list[float] = field(default_factory=list)
    before: list[float] = field(default_factory=list)
    meanwhile: list[float] = field(default_factory=list)
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Documents:
    """New documents with their vectors, float32 [n, d]."""

    names: list[str]
    texts: list[str]
    vectors: Floats

    def part(self, start: int, stop: int) -> tuple[list[str], list[str], Floats]:
        """Some of them, as `LiveStore.add` takes them."""
        return self.names[start:stop], self.texts[start:stop], self.vectors[start:stop]


def writes(setup: Setup, *, singles: int, batches: int, size: int, scratch: Path | None = None) -> Document:
    """Add `singles` documents one by one, then `batches` of `size`, then delete the single ones, in each system."""
    new = _new(setup, singles + batches * size)
    queries = setup.engine.embed(setup.workload.questions(50, setup.seed), "query")
    found: dict[str, Measured] = {}
    absent: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="tandem-writes-", dir=scratch) as name:
        for system, opening in _openers(setup, Path(name)).items():
            setup.progress(0, None, system)
            try:
                store = opening()
            except Unavailable as error:
                absent[system] = str(error)
                continue
            found[system] = _measure(store, new, queries, singles, size)
            store.close()
    rows = [_row(name, measured, size) for name, measured in found.items()]
    notes = [
        f"start: {len(setup.engine.collection):,} passages; the same texts and vectors, on one disk; exact search",
        "Tandem also stores token ids and words, reads back what it wrote, and merges segments in between",
        *not_here(absent),
    ]
    description = {
        "name": setup.workload.name, "passages": len(setup.engine.collection), "singles": singles, "batches": batches,
        "batch": size, "seed": setup.seed, **model_names(setup.engine),
    }  # fmt: skip
    measured = {name: {each: spread(ms) for each, ms in _lists(one).items()} for name, one in found.items()}
    return documented(
        "writes", MEASURES, workload=description, tables=[grid("Writes: documents that come and go", rows, notes)],
        systems=measured, absent=absent,
    )  # fmt: skip


def _new(setup: Setup, count: int) -> Documents:
    """Documents of one passage: stored ones, with a word that makes each of them new."""
    engine = setup.engine
    rows = np.random.default_rng(setup.seed).choice(engine.collection.rows, count)
    texts = [f"{text[:400]} new{number}" for number, text in enumerate(read_texts(engine, rows, titled=False))]
    encoder = BiEncoder(engine.encoder.artifact, engine.device, engine.encoder.precision, split="sequences")
    vectors = encoder.encode(encoder.tokenizer.encode_many(texts))
    return Documents([f"new {number}" for number in range(count)], texts, vectors)


def _openers(setup: Setup, folder: Path) -> dict[str, Callable[[], LiveStore]]:
    collection = setup.engine.collection

    def ours() -> LiveStore:
        shutil.copytree(collection.path, folder / "tandem")
        return Tandem(setup.engine, folder / "tandem")

    rows = np.arange(collection.rows) if collection.live is None else collection.live.rows
    start = collection.ids(rows), collection.texts(rows), np.ascontiguousarray(collection.index.vectors[rows])
    theirs = {name: partial(RIVALS[name], folder / name.replace(" ", "-"), *start) for name in RIVALS}
    return {"tandem": ours, **theirs}


def _measure(store: LiveStore, new: Documents, queries: Floats, singles: int, size: int) -> Measured:
    measured = Measured()
    for turn in range(QUIET):
        measured.before.append(_ms(partial(store.search, queries[turn % len(queries)], K)))
    stop = threading.Event()
    asking = threading.Thread(target=_ask, args=(store, queries, measured.meanwhile, stop))
    asking.start()
    try:
        for number in range(singles):
            measured.single.append(_ms(partial(store.add, *new.part(number, number + 1))))
            measured.missed += new.names[number] not in store.search(new.vectors[number], K)
        for start in range(singles, len(new.names), size):
            measured.batch.append(_ms(partial(store.add, *new.part(start, start + size))))
        for number in range(singles):
            measured.deleted.append(_ms(partial(store.delete, [new.names[number]])))
            measured.missed += new.names[number] in store.search(new.vectors[number], K)
    finally:
        stop.set()
        asking.join()
    return measured


def _ask(store: LiveStore, queries: Floats, ms: list[float], stop: threading.Event) -> None:
    """Somebody who searches all the time, with a pause as long as a search."""
    turn = 0
    while not stop.is_set():
        ms.append(_ms(partial(store.search, queries[turn % len(queries)], K)))
        turn += 1
        time.sleep(ms[-1] / 1e3)


def _ms(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def _lists(measured: Measured) -> dict[str, Sequence[float]]:
    names = ("single", "batch", "deleted", "before", "meanwhile")
    return {name: getattr(measured, name) for name in names if getattr(measured, name)}


def _row(name: str, measured: Measured, size: int) -> Row:
    def at(values: Sequence[float], share: float) -> float:
        return round(float(np.percentile(values, share)), 2)

    row: dict[str, Any] = {
        "system": name, "add ms p50": at(measured.single, 50), "p99": at(measured.single, 99),
        "documents/s in batches": round(size * len(measured.batch) * 1e3 / sum(measured.batch)),
        "delete ms p50": at(measured.deleted, 50), "not found or found still": measured.missed,
        "search ms p50": at(measured.before, 50), "p99 before": at(measured.before, 99),
        "p99 meanwhile": at(measured.meanwhile, 99),
    }  # fmt: skip
    return row
