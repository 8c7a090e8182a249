"""An open engine whose collection changes: by itself, by other processes, while it is asked."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from tandem.engine import Document, Engine
from tandem.engine.build.adding import add_corpus
from tandem.engine.build.indexing import index_corpus
from tandem.engine.build.retokenize import retokenize
from tandem.engine.errors import CollectionError, CorpusError, InputError

QUIET = {"device": "cpu", "warm_up": False, "reranker_precision": "fp32"}
ROOMS = ["attic", "barn", "cellar", "shed"]


def corpus(path: Path, count: int) -> Path:
    rows = [
        {"_id": f"d{n}", "text": f"The ladder number {n} is in the {ROOMS[n % 4]}.", "room": ROOMS[n % 4]}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def folder(tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path) -> Path:
    out = tmp_path / "docs"
    index_corpus(corpus(tmp_path / "c.jsonl", 12), out, encoder=tiny_bi_encoder, reranker=tiny_cross_encoder)
    return out


def everything(engine: Engine, query: str = "the ladder", **asked: object) -> dict[str, float]:
    result = engine.search(query, top_k=50, candidates=50, budget_ms=None, **asked)
    assert result.degraded is None
    return {hit.id: hit.score for hit in result.hits}


def test_what_is_added_is_found_and_what_is_deleted_is_not(folder: Path) -> None:
    with Engine.open(folder, **QUIET) as engine:
        added = [Document("new", "", "The kettle is in the hall.", {"room": "hall"}), Document("d3", "", "The kettle.")]
        report = engine.add(added)
        assert (report.added, report.replaced, report.documents) == (1, 1, 13)
        assert set(everything(engine)) == {"new", *(f"d{n}" for n in range(12))}
        assert everything(engine, filters={"room": "hall"}).keys() == {"new"}
        assert engine.rerank("q", ids=["new", "d3"])[0].text is not None
        report = engine.delete(["d1", "nobody"], filters={"room": "attic"})
        assert (report.deleted, report.missing) == (4, 1)
        assert set(everything(engine)) == {"new", "d2", "d3", "d5", "d6", "d7", "d9", "d10", "d11"}
        with pytest.raises(InputError, match="no passage"):
            engine.rerank("q", ids=["d1"])
        before = everything(engine)
        assert engine.merge(whole=True).removed == 5
        after = everything(engine)
        # Words that deleted passages hold no longer count: evidence moves, and nothing else.
        assert after.keys() == before.keys()
        assert engine.delete(list(after)).documents == 0
        assert engine.search("the ladder").hits == []
        assert engine.add(added).added == 2
        assert set(everything(engine)) == {"new", "d3"}
    with Engine.open(folder, **QUIET) as engine:
        assert set(everything(engine)) == {"new", "d3"}


def test_scores_are_those_of_a_collection_that_is_built_at_once(
    folder: Path, tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path
) -> None:
    index_corpus(corpus(tmp_path / "all.jsonl", 40), tmp_path / "once", encoder=tiny_bi_encoder,
                 reranker=tiny_cross_encoder)  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    with Engine.open(folder, **QUIET) as engine, Engine.open(tmp_path / "once", **QUIET) as once:
        for start in (12, 20, 33):
            some = rows[start : {12: 20, 20: 33, 33: 40}[start]]
            engine.add([Document(row["_id"], "", row["text"], {"room": row["room"]}) for row in some])
        assert len(engine.collection.segments) == 4
        for query in ("ladder number 7 in the barn", "shed", "where is 31"):
            assert everything(engine, query) == everything(once, query)
            assert everything(engine, query, filters={"room": "barn"}) == everything(
                once, query, filters={"room": "barn"}
            )
        np.testing.assert_array_equal(engine.collection.index.vectors, once.collection.index.vectors)


def test_an_engine_follows_what_others_publish(folder: Path, tmp_path: Path) -> None:
    with Engine.open(folder, **QUIET) as engine:
        version = engine.collection.version
        assert engine.refresh() == version
        report = add_corpus(folder, corpus(tmp_path / "more.jsonl", 15))
        assert (report.added, report.unchanged) == (3, 12)
        assert len(everything(engine)) == 12
        assert engine.refresh() == report.version != version
        assert len(everything(engine)) == 15


def test_unusable_documents_add_nothing(folder: Path) -> None:
    with Engine.open(folder, **QUIET) as engine:
        for bad in (Document("", "", "text"), Document("x", "", ""), Document("x", "", "half \ud800")):
            with pytest.raises(CorpusError, match="document 1"):
                engine.add([Document("good", "", "text"), bad])
        assert len(everything(engine)) == 12


def test_other_models_are_no_refresh(
    folder: Path, tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path, other_cross_encoder: Path
) -> None:
    with Engine.open(folder, **QUIET) as engine:
        retokenize(folder, other_cross_encoder)
        with pytest.raises(CollectionError, match="another reranker now"):
            engine.refresh()
        with pytest.raises(CollectionError, match="has other models or settings now"):
            engine.add([Document("new", "", "text")])
        assert len(everything(engine)) == 12
    with (
        Engine.open(folder, reranker=tiny_cross_encoder, **QUIET) as engine,
        pytest.raises(CollectionError, match="another reranker's: name the one"),
    ):
        engine.add([Document("new", "", "text")])
    # A reranker that was asked for stays, and reads the ids that are there now.
    with Engine.open(folder, reranker=tiny_cross_encoder, **QUIET) as engine:
        assert engine.passages.stage == "tokenize"
        retokenize(folder, tiny_cross_encoder)
        engine.refresh()
        assert engine.passages.stage == "fetch"


def test_searches_meet_the_old_state_of_a_document_or_the_new_one(folder: Path) -> None:
    """Never both, never neither: d0 is in one room at a time."""
    with Engine.open(folder, **QUIET) as engine:
        stop, wrong = threading.Event(), list[object]()

        def ask() -> None:
            while not stop.is_set():
                found = engine.search("the ladder", top_k=50, candidates=50, budget_ms=None, rerank=False).hits
                states = [hit.metadata["room"] for hit in found if hit.document == "d0"]
                if len(states) != 1 or len(found) != 12:
                    wrong.append((states, len(found)))

        asking = [threading.Thread(target=ask) for _ in range(2)]
        for thread in asking:
            thread.start()
        for number in range(8):
            engine.add([Document("d0", "", f"The ladder is in room {number}.", {"room": f"{number}"})])
        engine.merge(whole=True)
        stop.set()
        for thread in asking:
            thread.join(60)
        assert not wrong
