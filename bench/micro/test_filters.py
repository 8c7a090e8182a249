"""What a filter costs: its passages looked up, and the search behind it, beside the same search without one."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tandem.engine.collection.filters import MAX_CONDITIONS, MAX_VALUES, parse
from tandem.engine.collection.metadata_index import MetadataIndex
from tandem.engine.collection.ragged import Ragged, encode_strings
from tandem.engine.recall import Index, RowMask, scan
from tandem.engine.recall.int8_codes import Coding
from tandem.engine.recall.scan import Scan
from tandem.engine.text.tokens import cumulative

PASSAGES, DIMENSION = 100_000, 384


@pytest.fixture(scope="module")
def facets() -> MetadataIndex:
    rows = [json.dumps({"year": 2000 + row % 20, "source": f"s{row % 500}"}) for row in range(PASSAGES)]
    flat, lengths = encode_strings(rows)
    return MetadataIndex.of(Ragged(flat, cumulative(lengths)))


@pytest.fixture(scope="module")
def index() -> Index:
    vectors = np.random.default_rng(0).standard_normal((PASSAGES, DIMENSION), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codes, largest, residual = scan.build(vectors, lambda *_: None)
    return Index(vectors, Scan(codes, Coding(largest, residual), threads=1))


def test_filter_lookup(benchmark: Any, facets: MetadataIndex) -> None:
    document = {"year": {"$gte": 2005}, "source": {"$nin": ["s1", "s2"]}}
    mask = benchmark(lambda: parse(document).mask(facets))
    assert 0 < mask.sum() < PASSAGES


@pytest.mark.parametrize(
    "document",
    [
        {"source": {"$in": [f"s{place}" for place in range(MAX_VALUES)]}},
        {"$or": [{"year": {"$gt": 2000 + place % 20}} for place in range(MAX_CONDITIONS)]},
    ],
    ids=["values", "ranges"],
)
def test_the_largest_filters(benchmark: Any, facets: MetadataIndex, document: dict[str, Any]) -> None:
    mask = benchmark(lambda: parse(document).mask(facets))
    assert 0 < mask.sum() <= PASSAGES


@pytest.mark.parametrize("share", [None, 0.5, 0.1, 0.001])
def test_filtered_scan(benchmark: Any, index: Index, share: float | None) -> None:
    allowed = None if share is None else RowMask(np.random.default_rng(1).random(PASSAGES) < share)
    _, rows = benchmark(lambda: index.search(index.vectors[:1], 100, allowed))
    assert rows.shape[1] == min(100, PASSAGES if allowed is None else allowed.count)
