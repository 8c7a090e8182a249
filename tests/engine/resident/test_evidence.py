from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tandem.engine.lexical import K1, B, Lexicon  # noqa: E402
from tandem.engine.resident.evidence import TERMS, Terms, lexical  # noqa: E402
from tandem.engine.resident.stage import terms_of  # noqa: E402
from tandem.engine.tokens import Template, cumulative, join_pairs, pack  # noqa: E402
from tandem.kernels.pack import PairForm, TokenRows  # noqa: E402
from tandem.kernels.pack import pack as pack_pairs  # noqa: E402

BERT = Template(((1,), (2,), (2,)), ((0,), (0,), (1,)), (0, 1))


def test_the_lexical_score_is_bm25_counted_word_by_word():
    """The oracle counts in Python over the passages themselves, one query and one term at a time."""
    random = np.random.default_rng(0)
    queries = [random.integers(10, 25, length).astype(np.int32) for length in (3, 7)]
    passages = [random.integers(10, 40, length).astype(np.int32) for length in (0, 1, 9, 20, 33, 12)]
    rarity = random.uniform(0.1, 5.0, 40)
    mean = float(np.mean([len(passage) for passage in passages]))

    expected = np.zeros((2, 6))
    for i, query in enumerate(queries):
        terms = sorted(set(query.tolist()))
        for j, passage in enumerate(passages):
            total = 0.0
            for term in terms:
                count = passage.tolist().count(term)
                norm = K1 * (1 - B + B * len(passage) / mean)
                total += rarity[term] * count / (count + norm)
            expected[i, j] = total / sum(rarity[term] for term in terms)

    ids, shares = np.full((2, TERMS), -1, np.int32), np.zeros((2, TERMS), np.float32)
    for i, query in enumerate(queries):
        terms = np.unique(query)
        ids[i, : len(terms)], shares[i, : len(terms)] = terms, rarity[terms] / rarity[terms].sum()
    form = PairForm.of(BERT, 64, "cpu")
    stored = pack(passages)
    pairs = pack_pairs(
        _rows(pack(queries)), _rows(stored), torch.tensor([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, -1]),
        torch.tensor([0] * 6 + [1] * 6, dtype=torch.int32), form, 512,
    )  # fmt: skip
    lengths = torch.from_numpy(np.tile(stored.lengths, 2))
    terms = Terms(torch.from_numpy(ids), torch.from_numpy(shares), mean)
    found = lexical(pairs, 1, lengths, terms).numpy().reshape(2, 6)
    expected[1, 5] = 0.0  # no candidate
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_long_query_looks_for_its_rarest_ids():
    random = np.random.default_rng(1)
    lexicon = Lexicon(random.integers(1, 1000, 500).astype(np.uint32), 1000, 20.0)
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
