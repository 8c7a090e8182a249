from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tandem.engine.gpu_search.lexical_evidence import TERMS, Terms, densest_windows  # noqa: E402
from tandem.engine.gpu_search.search_model import terms_of  # noqa: E402
from tandem.engine.scoring.lexical import HALF, WINDOW, Lexicon  # noqa: E402
from tandem.engine.text.tokens import Template, cumulative, join_pairs, pack  # noqa: E402
from tandem.engine.text.tokens import longest_first as host_longest_first  # noqa: E402
from tandem.kernels.pack import PairForm, TokenRows, longest_first  # noqa: E402
from tandem.kernels.pack import pack as pack_pairs  # noqa: E402

BERT = Template(((1,), (2,), (2,)), ((0,), (0,), (1,)), (0, 1))
XLM_R = Template(((1,), (2, 2), (2,)), ((0,), (0, 0), (0,)), (0, 0))


@pytest.mark.parametrize("template", [BERT, XLM_R])
def test_windows_are_those_counted_word_by_word(template):
    """The oracle counts in Python over the passages themselves, one query and one term at a time."""
    random = np.random.default_rng(0)
    queries = [random.integers(10, 25, length).astype(np.int32) for length in (3, 7)]
    passages = [random.integers(10, 40, length).astype(np.int32) for length in (0, 1, 9, 20, 33, 60)]
    rarity = random.uniform(0.1, 5.0, 40)

    expected = np.zeros((2, 6))
    for i, query in enumerate(queries):
        terms = sorted(set(query.tolist()))
        for j, passage in enumerate(passages):
            starts = range(0, max(len(passage), 1), HALF)
            windows = [set(passage[start : start + WINDOW].tolist()) & set(terms) for start in starts]
            densest = max(sum(rarity[term] for term in window) for window in windows)
            expected[i, j] = densest / sum(rarity[term] for term in terms)

    ids, shares = np.full((2, TERMS), -1, np.int32), np.zeros((2, TERMS), np.float32)
    for i, query in enumerate(queries):
        terms = np.unique(query)
        ids[i, : len(terms)], shares[i, : len(terms)] = terms, rarity[terms] / rarity[terms].sum()
    form = PairForm.of(template, 80, "cpu")
    stored = pack(passages)
    pairs = pack_pairs(
        _rows(pack(queries)), _rows(stored), torch.tensor([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, -1]),
        torch.tensor([0] * 6 + [1] * 6, dtype=torch.int32), form, 512,
    )  # fmt: skip
    lengths = torch.from_numpy(np.tile(stored.lengths, 2))
    terms = Terms(torch.from_numpy(ids), torch.from_numpy(shares))
    asked = torch.tensor([len(query) for query in queries])
    found = densest_windows(pairs, form, asked, lengths, terms).numpy().reshape(2, 6)
    expected[1, 5] = 0.0  # no candidate
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_passage_is_counted_as_it_is_read():
    """What is cut off, the query before it and the special tokens behind it are none of its tokens."""
    query, passage = np.array([7, 8, 9], np.int32), np.array([3] * 40 + [7], np.int32)
    form, stored = PairForm.of(BERT, 32, "cpu"), pack([passage])
    pairs = pack_pairs(
        _rows(pack([query])), _rows(stored), torch.tensor([0]), torch.tensor([0], dtype=torch.int32), form, 64
    )
    ids, shares = torch.full((1, TERMS), -1, dtype=torch.int32), torch.zeros(1, TERMS)
    ids[0, :3], shares[0, :3] = torch.tensor([2, 7, 8]), 1 / 3
    assert densest_windows(pairs, form, torch.tensor([3]), torch.tensor([41]), Terms(ids, shares)).item() == 0.0


@pytest.mark.parametrize("room", [1, 2, 5, 8])
def test_kept_lengths_are_those_of_the_host(room):
    first, second = torch.cartesian_prod(torch.arange(13), torch.arange(13)).unbind(1)
    kept = torch.stack(longest_first(first, second, room), dim=1).tolist()
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    expected = [host_longest_first(a, np.array([b]), room) for a, b in pairs]
    assert kept == [[int(a[0]), int(b[0])] for a, b in expected]


def test_a_long_query_looks_for_its_rarest_ids():
    random = np.random.default_rng(1)
    lexicon = Lexicon(random.integers(1, 1000, 500).astype(np.uint32), 1000)
    query = random.permutation(500)[:200].astype(np.int32)
    ids, shares = terms_of(lexicon, pack([query, [7, 7]]))
    assert (ids[0] >= 0).all()
    left = np.setdiff1d(query, ids[0])
    assert lexicon.frequencies[left].min() >= lexicon.frequencies[ids[0]].max()
    assert shares[0].sum() < 1
    assert (ids[1][:2].tolist(), shares[1][0]) == ([7, -1], 1.0)


def test_the_store_packs_what_the_host_joins():
    """A check of this file's own helper: the pairs above are the reranker's."""
    passages = pack([[7, 8], [9]])
    joined = join_pairs(np.array([5], np.int32), passages, BERT, 64, segments=True)
    form = PairForm.of(BERT, 64, "cpu")
    rows, owners = torch.tensor([0, 1]), torch.zeros(2, dtype=torch.int32)
    pairs = pack_pairs(_rows(pack([[5]])), _rows(passages), rows, owners, form, len(joined.ids))
    assert pairs.ids.tolist() == joined.ids.tolist()
    assert cumulative(joined.lengths).tolist() == pairs.layout.cu_seqlens.tolist()


def _rows(batch) -> TokenRows:
    return TokenRows(torch.from_numpy(batch.ids), torch.from_numpy(batch.cu_seqlens))
