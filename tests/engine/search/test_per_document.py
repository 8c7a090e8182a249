"""`per_document`: how many passages of one document may be returned, everywhere an option can be given."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tandem.engine import Engine, InputError
from tandem.engine.build.indexing import index_corpus
from tandem.engine.collection import IndexSettings

QUERY = "how to sort a list of words"


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path, tiny_cross_encoder: Path
) -> Iterator[Engine]:
    """Six documents of some seven passages each."""
    folder = tmp_path_factory.mktemp("documents")
    rows = [{"_id": f"d{row}", "text": " ".join(f"word{row} sort list {n}." for n in range(60))} for row in range(6)]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    index_corpus(
        folder / "corpus.jsonl", folder / "c", encoder=tiny_bi_encoder, reranker=tiny_cross_encoder,
        settings=IndexSettings(chunk_tokens=48, overlap=0),
    )  # fmt: skip
    with Engine.open(folder / "c", device="cpu", warm_up=False) as opened:
        yield opened


@pytest.mark.parametrize("rerank", [True, False])
def test_the_best_of_each_document_are_returned_in_their_order(engine: Engine, rerank: bool):
    asked = dict(candidates=len(engine.collection), budget_ms=None, rerank=rerank)
    every = engine.search(QUERY, top_k=len(engine.collection), **asked).hits
    assert max(Counter(hit.document for hit in every).values()) > 2
    for most in (1, 2):
        seen: Counter[str] = Counter()
        expected = []
        for hit in every:
            seen[hit.document] += 1
            if seen[hit.document] <= most:
                expected.append(hit.id)
        hits = engine.search(QUERY, top_k=5, per_document=most, **asked).hits
        assert [hit.id for hit in hits] == expected[:5]
        assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]


def test_where_there_are_fewer_documents_fewer_hits_are_returned(engine: Engine):
    hits = engine.search(QUERY, top_k=10, per_document=1, candidates=len(engine.collection), budget_ms=None).hits
    assert len(hits) == len({hit.document for hit in hits}) == 6


def test_a_wrong_number_is_refused(engine: Engine):
    with pytest.raises(InputError, match="setting per_document = 0"):
        engine.search(QUERY, per_document=0)


def test_it_is_an_option_over_http_without_being_listed_again():
    search = pytest.importorskip("tandem.engine.server.routes.search", exc_type=ImportError)
    assert search.SearchBody(query="q", per_document=1).per_document == 1
