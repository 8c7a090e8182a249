"""Scanning bytes is exact search: the same rows and scores, ties included, also where bytes cannot tell."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from tandem.engine.errors import CollectionError
from tandem.engine.recall import Index, Plan, build, exact
from tandem.engine.recall.index import CODES, VECTORS
from tandem.engine.recall.int8_codes import Coding, coded, coded_queries, residuals
from tandem.engine.recall.scan import Scan

SCAN = Plan(kind="scan", reason="to be tested")


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def opened(folder: Path, vectors: np.ndarray) -> Index:
    np.save(folder / VECTORS, vectors)
    plan = build(folder, SCAN, vectors[:0], progress=lambda done, total, what: None)
    assert plan.recall_at_100 == 1.0
    return Index.open(folder, plan)


def worlds() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(7)
    spread = unit(random.standard_normal((6000, 48)))
    centre = unit(random.standard_normal((1, 48)))
    return {
        "spread": (spread, unit(random.standard_normal((20, 48)))),
        # All so close together that bytes order them at random: only full precision can tell.
        "close": (unit(centre + 1e-4 * random.standard_normal((6000, 48))), np.repeat(centre, 3, axis=0)),
        "repeated": (spread[random.integers(0, 300, 6000)], spread[:10]),
        "few": (spread[:37], spread[:3]),
        "lopsided": (unit(spread + 40 * np.eye(48)[0]), unit(spread[:5] + np.eye(48)[0])),
    }


@pytest.mark.parametrize("world", worlds())
def test_equals_exact_search(tmp_path: Path, world: str) -> None:
    vectors, queries = worlds()[world]
    index = opened(tmp_path, vectors)
    scores, rows = index.search(queries, 50)
    expected_scores, expected_rows = exact.search(vectors, queries, 50)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)
    for place, query in enumerate(queries):
        np.testing.assert_array_equal(index.search(query[None], 50)[1][0], rows[place])


def test_the_proof_usually_holds_and_the_ceiling_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = worlds()["spread"]
    index = opened(tmp_path, vectors)
    finder = index._finder
    assert isinstance(finder, Scan)
    rows, ceilings = finder.candidates(queries, 20)
    products = queries.astype(np.float64) @ vectors.astype(np.float64).T
    np.put_along_axis(products, rows, -1, axis=1)
    assert (products.max(axis=1) <= ceilings).all()
    assert (products.max(axis=1) > ceilings - 0.2).all()
    monkeypatch.setattr(exact, "search", lambda *_: pytest.fail("the whole was searched in full precision"))
    index.search(queries, 20)


def test_codes_are_as_far_off_as_is_said() -> None:
    vectors, _ = worlds()["spread"]
    codes, largest = coded_queries(vectors)
    assert np.abs(codes).max(axis=1).tolist() == [127.0] * len(vectors)
    distances = residuals(vectors, codes, largest)
    assert 0 < distances.max() <= np.sqrt(48) * 0.5 * largest.max() / 127 * 1.0001
    assert (coded(np.zeros((1, 4), dtype=np.float32), 0.0) == 0).all()


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    index = opened(tmp_path, worlds()["spread"][0])
    assert len(index) == 6000
    (tmp_path / CODES).write_bytes(b"IxF2" + bytes(60))
    with pytest.raises(CollectionError, match="index again"):
        Scan.open(tmp_path / CODES, Coding(1, 0), threads=1)


def test_faiss_believes_no_length_that_exceeds_the_file(tmp_path: Path) -> None:
    """By itself it reserves what a length says, up to a tebibyte, before it finds that the file is shorter."""
    index = opened(tmp_path, worlds()["spread"][0])
    data = bytearray((tmp_path / CODES).read_bytes())
    trained = data.index(index.vectors.size.to_bytes(8, "little")) - 8  # before the codes' length, and empty
    data[trained : trained + 8] = (2**33).to_bytes(8, "little")
    (tmp_path / CODES).write_bytes(data)
    before = faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()
    with pytest.raises(CollectionError, match="limit"):
        Scan.open(tmp_path / CODES, Coding(1, 0), threads=1)
    after = faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()
    assert after == before
