"""Documents that are added are found when the call returns, in every store that takes part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tandem.bench.document import load, save
from tandem.bench.setup import Setup
from tandem.bench.workloads import prepare
from tandem.bench.writes import benchmark
from tandem.bench.writes.stores import RIVALS
from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus

from .corpus import write_corpus, write_questions


@pytest.fixture
def setup(tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path) -> Setup:
    collection = tmp_path / "collection"
    index_corpus(write_corpus(tmp_path, 8), collection, encoder=tiny_bi_encoder, reranker=tiny_cross_encoder, threads=1)
    write_questions(tmp_path, 3)
    with Engine.open(collection, device="cpu", threads=1, warm_up=False) as engine:
        yield Setup(engine, prepare(collection, tmp_path))


def test_what_is_added_is_found_at_once(setup: Setup, tmp_path: Path) -> None:
    before = setup.engine.collection.version
    document = benchmark.writes(setup, singles=9, batches=2, size=5, scratch=tmp_path)
    (table,) = document["tables"]
    rows = {row[0]: dict(zip(table["columns"], row, strict=True)) for row in table["rows"]}
    assert rows.keys() | document["absent"].keys() == {"tandem", *RIVALS}
    assert all(row["not found or found still"] == 0 for row in rows.values())
    assert document["systems"]["tandem"]["single"]["n"] == 9
    assert setup.engine.collection.version == before, "a copy is written to"
    save(document, tmp_path / "results", "writes")
    assert load(tmp_path / "results")


@pytest.mark.parametrize("name", sorted(RIVALS))
def test_a_rival_finds_what_ours_finds(name: str, setup: Setup, tmp_path: Path) -> None:
    pytest.importorskip({"lancedb": "lancedb", "qdrant local": "qdrant_client"}[name])
    collection = setup.engine.collection
    rows = np.arange(collection.rows)
    store = RIVALS[name](tmp_path / "rival", collection.ids(rows), collection.texts(rows), collection.index.vectors)
    query = collection.index.vectors[3]
    assert store.search(query, 1) == collection.ids([3])
    store.delete(collection.ids([3]))
    assert collection.ids([3])[0] not in store.search(query, 5)
    store.add(["new"], ["text"], query[None])
    assert store.search(query, 1) == ["new"]
    store.close()
