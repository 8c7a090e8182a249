"""Rivals whose batches hold several requests' pairs are asked several at once too, and no worse for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tandem.bench import floors, throughput
from tandem.bench.rivals import RIVALS
from tandem.bench.rivals.process import Timed
from tandem.bench.workloads import prepare
from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus

from .corpus import write_corpus, write_questions


class Sharing:
    """A rival that takes 100 ms for a rerank, 40 for each of several asked at once, 10 for encoding."""

    spec = RIVALS["infinity"]
    name = "infinity"

    def __init__(self, width: int) -> None:
        self._vector = np.zeros((1, width), dtype=np.float32)
        self.asked: list[list[list[str]]] = []

    def encode(self, texts: Sequence[str]) -> Timed:
        return Timed(self._vector, 10.0)

    def rerank(self, query: str, texts: Sequence[str]) -> Timed:
        return Timed(np.zeros(len(texts), dtype=np.float32), 100.0)

    def rerank_together(self, queries: Sequence[str], texts: Sequence[Sequence[str]]) -> float:
        self.asked.append([list(some) for some in texts])
        return 40.0 * len(queries)


@pytest.fixture
def measured(
    tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], Sharing]:
    collection = tmp_path / "collection"
    index_corpus(write_corpus(tmp_path, 8), collection, encoder=tiny_bi_encoder, reranker=tiny_cross_encoder, threads=1)
    write_questions(tmp_path, 3)
    monkeypatch.setattr(floors, "SIZE", 64)
    monkeypatch.setattr(floors, "COPIED", 1_000_000)
    with Engine.open(collection, device="cpu", threads=1, warm_up=False) as engine:
        rival = Sharing(engine.collection.index.dimension)

        @contextmanager
        def running(*_: Any, **__: Any) -> Iterator[tuple[list[Sharing], dict[str, str]]]:
            yield [rival], {}

        monkeypatch.setattr(throughput, "running", running)
        work = prepare(collection, tmp_path, tell=lambda message: None)
        found = throughput.throughput(engine, work, sample=3, candidates=4, callers=(1,), repeats=2)
    return found, rival


def test_several_at_once_share_the_time_of_reranking(measured: tuple[dict[str, Any], Sharing]):
    found, rival = measured
    systems = found["systems"]
    assert systems["infinity"]["per_second"]["p50"] == pytest.approx(1000 / 110, rel=0.1)
    assert systems["infinity, 3 at once"]["per_second"]["p50"] == pytest.approx(1000 / 50, rel=0.1)
    assert systems["infinity, 3 at once"]["ms"]["p50"] == pytest.approx(150, rel=0.1)
    assert [[len(some) for some in asked] for asked in rival.asked] == [[4, 4, 4]] * 2, "once a round, every candidate"
