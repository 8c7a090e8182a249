"""Both lists of recall as one on the device, against the host."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tandem.engine.gpu_search.buffers import Parts  # noqa: E402
from tandem.engine.gpu_search.candidates import DeviceCandidates, united  # noqa: E402
from tandem.engine.recall import Index, Part, SegmentedIndex  # noqa: E402
from tandem.engine.recall.nearest import Neighbours  # noqa: E402
from tandem.engine.scoring.fusion import Fusion  # noqa: E402
from tandem.engine.search.union import unite  # noqa: E402

FUSION = Fusion(lexical_weight=0.4, recall_scale=1.5)


def parts() -> Any:
    """As much of a pipeline's parts as the union reads."""
    some = SimpleNamespace(recall_scale=FUSION.recall_scale, lexical_weight=FUSION.lexical_weight)
    some.evidence = lambda cosines, lexical: Parts.evidence(some, cosines, lexical)
    return some


def test_the_candidates_are_those_of_the_host():
    random = np.random.default_rng(0)
    vectors, asked = random.normal(size=(40, 6)).astype(np.float32), random.normal(size=(30, 6)).astype(np.float32)
    rows, shares = np.full((30, 8), -1), np.zeros((30, 8), np.float32)
    for place in range(30):
        count = place % 9
        rows[place, :count] = random.permutation(40)[:count]
        shares[place, :count] = -np.sort(-random.random(count))
    scores = asked @ vectors.T
    index = SegmentedIndex([Part(Index(vectors))], 6)
    near = np.argsort(-scores, axis=1, kind="stable")[:, :8]
    cosines = np.take_along_axis(scores, near, axis=1)
    of_listed = np.take_along_axis(scores, rows.clip(min=0), axis=1)
    found = united(
        (torch.from_numpy(cosines), torch.from_numpy(near)),
        (torch.from_numpy(rows), torch.from_numpy(shares), torch.from_numpy(of_listed)),
        parts(),
    )
    for place in range(30):
        listed = rows[place] >= 0
        neighbours = Neighbours(near[place], cosines[place], asked[place], 0.0, 0.0)
        expected = unite(neighbours, (rows[place][listed], shares[place][listed]), index, FUSION, 8)
        assert found.rows[place].tolist() == expected.rows.tolist()
        np.testing.assert_allclose(found.cosines[place], expected.scores, atol=1e-5)
        np.testing.assert_array_equal(found.words[place], expected.words)


def test_where_there_is_no_vector_nothing_is_found():
    nan, rows = torch.full((1, 2), torch.nan), torch.tensor([[3, 4]])
    near = torch.full((1, 2), -torch.inf), torch.full((1, 2), -1)
    assert united(near, (rows, torch.ones(1, 2), nan), parts()).rows.tolist() == [[-1, -1]]


def test_candidates_of_some_queries_are_taken_and_the_rest_have_none():
    own, other = (DeviceCandidates.none(queries, 2, torch.device("cpu")) for queries in (2, 3))
    other.rows.copy_(torch.arange(6).view(3, 2))
    own.rows.fill_(7)
    own.take(other, slice(1, 2))
    assert own.rows.tolist() == [[2, 3], [-1, -1]]
    assert own.cosines[1].tolist() == [-torch.inf, -torch.inf]
