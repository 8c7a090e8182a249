"""The final order on the device is the host's where everything was reranked, and tells what was not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tandem.engine.scoring.fusion import Fusion, Scored, rank
from tandem.kernels import keys
from tandem.kernels.topk import topk


@pytest.mark.parametrize("count", [1, 7, 100])
@pytest.mark.parametrize("weight", [0.0, 5.0])
def test_equals_the_host(device: torch.device, count: int, weight: float) -> None:
    random = np.random.default_rng(count)
    # Few different values, so that there are ties; a third not reranked.
    logits = random.integers(-3, 3, (4, count)).astype(np.float32) / 2
    logits[random.random(logits.shape) < 0.3] = np.nan
    recall = -np.sort(-random.integers(0, 8, (4, count)).astype(np.float32) / 8, axis=1)
    # What was not reranked stands in recall's order, which is that of its evidence.
    evidence = np.where(np.isnan(logits), recall, recall + random.integers(0, 4, recall.shape).astype(np.float32) / 4)
    k = min(10, count)
    given = [torch.tensor(each, device=device) for each in (logits, recall, evidence)]
    scores, places = topk(given[0], given[1], weight, k, evidence=given[2])
    for query in range(4):
        read = np.isfinite(logits[query])
        fused = Fusion(recall_weight=weight).fuse(logits[query], evidence[query])
        final = np.where(read, fused, recall[query]).astype(np.float32)
        expected = np.lexsort((-final, ~read))
        np.testing.assert_array_equal(places[query].cpu(), expected[:k])
        np.testing.assert_array_equal(scores[query].cpu(), final[expected[:k]])


def test_where_all_were_reranked_it_is_the_hosts_order(device: torch.device) -> None:
    random = np.random.default_rng(0)
    logits, evidence = (random.integers(-3, 3, (4, 50)).astype(np.float32) / 2 for _ in range(2))
    scores, places = topk(
        torch.tensor(logits, device=device), torch.tensor(evidence, device=device), 5.0, 10,
        evidence=torch.tensor(evidence, device=device),
    )  # fmt: skip
    for query in range(4):
        expected = rank(evidence[query], Scored.of(logits[query]), Fusion(recall_weight=5.0))
        np.testing.assert_array_equal(places[query].cpu(), expected.places[:10])
        np.testing.assert_array_equal(scores[query].cpu(), expected.scores[expected.places[:10]])


def test_recall_scores_are_the_evidence_where_there_is_no_other(device: torch.device) -> None:
    logits, recall = (torch.arange(8.0, device=device).view(2, 4), -torch.arange(8.0, device=device).view(2, 4))
    ours, explicit = topk(logits, recall, 3.0, 2), topk(logits, recall, 3.0, 2, evidence=recall)
    assert torch.equal(ours[0], explicit[0])
    assert ours[1].tolist() == explicit[1].tolist() == [[0, 1], [0, 1]]


def test_missing_candidates_and_pairs_that_did_not_fit(device: torch.device) -> None:
    logits = torch.tensor([[1.0, 9.0, 2.0, 7.0]], device=device)
    recall = torch.tensor([[0.9, 0.8, 0.7, -torch.inf]], device=device)
    cu_seqlens = torch.tensor([0, 4, 4, 9, 9], dtype=torch.int32, device=device)
    scores, places = topk(logits, recall, 1.0, 4, cu_seqlens=cu_seqlens)
    assert places.tolist() == [[2, 0, 1, -1]]
    np.testing.assert_allclose(scores[0].cpu(), [2.7, 1.9, 0.8, -np.inf], rtol=1e-6)


def test_bounds(device: torch.device) -> None:
    with pytest.raises(ValueError, match="k is 3 and there are 2"):
        topk(torch.zeros(1, 2, device=device), torch.zeros(1, 2, device=device), 1.0, 3)


def test_keys_order_as_scores_then_indices_do() -> None:
    scores = torch.tensor([-np.inf, -1e30, -1.0, -1e-42, -0.0, 0.0, 1e-42, 0.5, 3e38, np.inf], dtype=torch.float32)
    indices = torch.tensor([0, 1, 5, 2**31 - 1, 2**32 - 1])
    encoded = keys.encode(scores[:, None].expand(-1, len(indices)), indices)
    assert (encoded > keys.NOTHING).all()
    assert torch.equal(encoded[4], encoded[5])  # -0 and 0
    ordered = torch.cat([encoded[:4], encoded[5:]]).flip(1).flatten()
    assert torch.equal(ordered, ordered.sort().values)
    assert len(ordered.unique()) == len(ordered)
    back, which = keys.decode(encoded)
    assert torch.equal(back, scores[:, None].expand_as(back))
    assert torch.equal(which, indices.expand_as(which))
    assert keys.decode(torch.tensor([keys.NOTHING]))[1].item() == -1
