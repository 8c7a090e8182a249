"""A CUDA graph holds every op: captured once, replayed on other data, it gives what the ops give outside."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tandem.engine.text.tokens import Template
from tandem.kernels.add_norm import add_norm
from tandem.kernels.attention import attention, first_tokens, single_attention
from tandem.kernels.embed_norm import embed_norm
from tandem.kernels.linear_gelu import linear_gelu
from tandem.kernels.pack import PairForm, TokenRows, empty_pairs, pack
from tandem.kernels.pool import pool
from tandem.kernels.scan import empty_result, scan, workspace
from tandem.kernels.topk import topk

from .conftest import captured
from .oracle import randn

BERT = Template(parts=((101,), (102,), (102,)), part_segments=((0,), (0,), (1,)), text_segments=(0, 1))
PASSAGES, WIDTH, HEADS, K, CAPACITY = 500, 64, 2, 20, 2048


class Search:
    """Recall, packing, one layer of a random model, its last for the first token only, and the final order."""

    def __init__(self, device: torch.device) -> None:
        random = np.random.default_rng(0)
        lengths = random.integers(0, 90, PASSAGES)
        offsets = torch.tensor([0, *lengths.cumsum()], device=device)
        ids = torch.from_numpy(random.integers(0, 1000, lengths.sum()).astype(np.uint16)).to(device)
        self.store = TokenRows(ids, offsets)
        self.vectors = torch.nn.functional.normalize(randn(PASSAGES, WIDTH, device=device)).half()
        # What a request brings.
        self.query = self.vectors[:1].clone()
        self.ids = TokenRows(torch.zeros(30, dtype=torch.int32, device=device), torch.tensor([0, 5], device=device))
        self.owners = torch.zeros(K, dtype=torch.int32, device=device)
        self.form = PairForm.of(BERT, 80, device)
        self.pairs = empty_pairs(K, CAPACITY, device)
        self.scratch, self.found = workspace(PASSAGES, 1, K, device), empty_result(1, K, device)
        half = torch.float16
        self.tables = [randn(n, WIDTH, seed=n, dtype=half, device=device) for n in (1000, 128, 2)]
        self.vector = [randn(WIDTH, seed=s, dtype=half, device=device) for s in range(4)]
        self.matrix = [randn(4 * WIDTH, WIDTH, seed=s, dtype=half, device=device) / 8 for s in range(3)]
        self.wide = randn(4 * WIDTH, dtype=half, device=device)

    def ask(self, row: int) -> None:
        self.query.copy_(self.vectors[row : row + 1])
        self.ids.ids[: 3 + row].copy_(torch.arange(3 + row))
        self.ids.offsets[1] = 3 + row

    def run(self) -> tuple[torch.Tensor, ...]:
        scores, rows = scan(self.vectors, self.query, K, scratch=self.scratch, out=self.found)
        pairs = pack(self.ids, self.store, rows[0], self.owners, self.form, CAPACITY, out=self.pairs)
        a, b, c, d = self.vector
        hidden = embed_norm(pairs.ids, pairs.layout.positions, pairs.segments, *self.tables, a, b, 1e-12)
        qkv = (hidden @ self.matrix[0][: 3 * WIDTH].T).view(CAPACITY, 3 * HEADS, -1)
        hidden = add_norm(attention(qkv, pairs.layout).view(CAPACITY, WIDTH), hidden, c, a, b, 1e-12)
        wide = linear_gelu(hidden, self.matrix[1], self.wide)
        hidden = add_norm(wide @ self.matrix[2], hidden, d, a, b, 1e-12)
        q = first_tokens(hidden, pairs.layout).view(K, HEADS, -1)
        kv = (hidden @ self.matrix[0][: 2 * WIDTH].T).view(CAPACITY, 2 * HEADS, -1)
        logits = single_attention(q, kv, pairs.layout).view(K, WIDTH).float().sum(1)
        means = pool(hidden, pairs.layout.cu_seqlens, normalize=True)
        return (rows, *topk(logits[None], scores, 2.0, 10, cu_seqlens=pairs.layout.cu_seqlens), means, hidden)


@pytest.mark.gpu
def test_a_search_in_one_graph() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    search = Search(torch.device("cuda"))
    replay, outputs = captured(search.run)
    for row in (7, 0, 20):
        search.ask(row)
        replay()
        got = [output.clone() for output in outputs]
        expected = search.run()
        for ours, theirs in zip(got, expected, strict=True):
            assert torch.isfinite(ours).all()
            assert torch.equal(ours, theirs)
        assert got[0][0, 0].item() == row


def test_the_same_search_on_the_cpu() -> None:
    search = Search(torch.device("cpu"))
    search.ask(7)
    rows, scores, places, means, hidden = search.run()
    assert rows[0, 0].item() == 7
    assert torch.isfinite(hidden).all()
    assert (scores.diff() <= 0).all()
    assert len(set(places[0].tolist())) == 10
    assert means.shape == (K, WIDTH)
