"""PyTerrier itself with the adapter, and ir-measures on what comes out."""

from __future__ import annotations

from typing import Any

import pytest

from tandem.engine import Engine
from tandem.engine.errors import EngineClosed, EngineError, InputError

from .conftest import QUERY, TEXTS, need

pytestmark = [pytest.mark.clients, pytest.mark.usefixtures("_their_warnings")]
pt = need("pyterrier")
pd = need("pandas")
ir_measures = need("ir_measures")

from tandem.engine.adapters.pyterrier import PyTerrierReranker, PyTerrierRetriever  # noqa: E402

QUERIES = pd.DataFrame([["1", QUERY, "x"], ["2", "rain and cold", "y"]], columns=["qid", "query", "query_kind"])
JUDGED = pd.DataFrame([["1", "backups", 1], ["2", "wetter", 1]], columns=["qid", "docno", "label"])


def test_retriever(given: dict[str, Any], engine: Engine):
    retriever = PyTerrierRetriever(**given, top_k=3)
    run = retriever.transform(QUERIES)
    assert list(run["qid"]) == ["1"] * 3 + ["2"] * 3
    assert set(run["query_kind"]) == {"x", "y"}
    assert not run.duplicated(["qid", "docno"]).any()
    for qid, query in zip(QUERIES["qid"], QUERIES["query"], strict=True):
        hits = engine.search(query, top_k=3, per_document=1, budget_ms=None).hits
        rows = run[run["qid"] == qid]
        assert list(zip(rows["docno"], rows["passage"], rows["score"], rows["rank"], strict=True)) == [
            (hit.document, hit.id, hit.score, hit.rank - 1) for hit in hits
        ]
        assert list(rows["text"]) == [hit.text for hit in hits]
    assert run.equals(retriever(run))  # a run is a frame of queries too


def test_a_search_without_hits_and_a_frame_without_queries(engine: Engine):
    none = PyTerrierRetriever(engine, filters={"year": {"$gt": 3000}}).transform(QUERIES)
    assert len(none) == 0
    assert {"qid", "query", "docno", "score", "rank"} <= set(none.columns)
    assert list(PyTerrierRetriever(engine).transform(QUERIES[:0]).columns) == list(none.columns)
    assert set(pt.inspect.transformer_outputs(PyTerrierRetriever(engine), ["qid", "query"])) >= {"docno", "score"}
    with pytest.raises(KeyError, match="query"):
        PyTerrierRetriever(engine).transform(QUERIES[["qid"]])


def test_reranker(given: dict[str, Any], engine: Engine):
    frame = pd.DataFrame(
        [{"qid": "1", "query": QUERY, "docno": str(n), "text": text, "kept": n} for n, text in enumerate(TEXTS)]
    )
    ranked = engine.rerank(QUERY, TEXTS)
    reranked = PyTerrierReranker(**given).transform(frame)
    assert list(zip(reranked["docno"], reranked["score"], reranked["rank"], reranked["kept"], strict=True)) == [
        (str(each.index), each.score, place, each.index) for place, each in enumerate(ranked)
    ]
    assert {"score", "rank"} <= set(PyTerrierReranker(**given).transform(frame[:0]).columns)
    renamed = frame.rename(columns={"text": "body"})
    assert list(PyTerrierReranker(**given, text="body").transform(renamed)["docno"]) == list(reranked["docno"])


def test_an_experiment(given: dict[str, Any]):
    recall = PyTerrierRetriever(**given, rerank=False)
    both = recall % 3 >> PyTerrierReranker(**given)
    table = pt.Experiment(
        [recall, both], QUERIES, JUDGED, [ir_measures.nDCG @ 10, ir_measures.RR], names=["recall", "both"]
    )
    assert list(table["name"]) == ["recall", "both"]
    assert table["nDCG@10"].between(0, 1).all()


def test_ir_measures_reads_a_run(engine: Engine):
    run = PyTerrierRetriever(engine).transform(QUERIES).rename(columns={"qid": "query_id", "docno": "doc_id"})
    judged = JUDGED.rename(columns={"qid": "query_id", "docno": "doc_id", "label": "relevance"})
    found = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], judged, run)
    experiment = pt.Experiment([PyTerrierRetriever(engine)], QUERIES, JUDGED, [ir_measures.nDCG @ 10])
    assert found[ir_measures.nDCG @ 10] == pytest.approx(experiment["nDCG@10"][0])


def test_what_does_not_answer_raises(engine: Engine):
    with Engine.open(engine.collection.path, device="cpu", warm_up=False) as opened:
        retriever = PyTerrierRetriever(opened)
    with pytest.raises(EngineClosed):
        retriever.transform(QUERIES)
    with pytest.raises(EngineError, match="cannot be reached"):
        PyTerrierRetriever("http://127.0.0.1:9").transform(QUERIES)
    with pytest.raises(InputError, match="topk"):
        PyTerrierRetriever(engine, topk=3)
