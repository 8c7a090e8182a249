"""How good a collection's answers are: recall alone, pure cross-encoder order and fused order, on judged questions.

One search a question, as it is served with an `effort`, gives all four orders over the same candidates: every candidate
comes back with its recall rank, its logit and its final score. Beside them stands what the vectors alone recall, where
words are looked up too.
Metrics are ir-measures' (trec_eval's definitions).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import ir_measures
import numpy as np

from ...engine import Engine, SearchResult
from ...engine.build.beir import Judged, Qrels
from ...engine.collection.report import Progress, silent
from ...engine.errors import CorpusError, InputError
from ...engine.platform.durable_io import storage
from ...engine.recall.nearest import Recalled
from ...engine.result import Hit
from ...engine.scoring.effort import Effort
from ...engine.scoring.fusion import Fusion

METRICS = {
    "accuracy@1": ir_measures.Success @ 1,
    "accuracy@3": ir_measures.Success @ 3,
    "accuracy@5": ir_measures.Success @ 5,
    "accuracy@10": ir_measures.Success @ 10,
    "recall@100": ir_measures.R @ 100,
    "MRR@10": ir_measures.RR @ 10,
    "nDCG@10": ir_measures.nDCG @ 10,
}
ORDERS = ("recall", "evidence", "rerank", "fused")
DENSE = "vectors"
"""Recall by vectors alone, where a collection has words."""
READ = ("reranked", "finalists", "reread")
_SCORES = ("score", "recall_rank", "recall_score", "lexical_score", "rerank_score")
_PRINTABLE = "".join(map(chr, range(33, 127)))
Run = dict[str, list[str]]
"""query id → document ids, best first"""


@dataclass(frozen=True, slots=True)
class Quality:
    """metrics: order → metric → value in 0…1; latency: stage → {p50, p95, p99} in ms; runs: order → Run.

    read: means over the questions of what was reranked, read by all layers, and read again, by a result's names
    """

    questions: int
    candidates: int
    budget_ms: float | None
    effort: Effort
    read: dict[str, float]
    degraded: int
    device: str
    recall_weight: float
    lexical_weight: float
    metrics: dict[str, dict[str, float]]
    latency: dict[str, dict[str, float]]
    runs: dict[str, Run]

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON, without the runs."""
        document = asdict(self)
        del document["runs"]
        return document


def evaluate(
    engine: Engine,
    judged: Judged,
    *,
    candidates: int = 100,
    budget_ms: float | None = None,
    rerank: bool = True,
    effort: Effort = "balanced",
    sample: int | None = None,
    seed: int = 0,
    found: Callable[[str, SearchResult], None] | None = None,
    recalled: Mapping[str, Recalled] | None = None,
    progress: Progress = silent,
) -> Quality:
    """Search each judged question (or `sample` of them, drawn with `seed`), one at a time, and measure.

    found: told each question's id and its search of all candidates
    recalled: for each of the questions what `Engine.recall` found, which is not done again
    Raises CorpusError when no judged document is in the collection: then the judgements are another corpus's.
    """
    _check_same_corpus(engine, judged.qrels)
    rerank = rerank and engine.reranker is not None
    questions = sampled(judged, sample, seed)
    told: dict[str, Any] = {"candidates": candidates, "budget_ms": budget_ms, "effort": effort}
    settings = {**told, "rerank": rerank, "top_k": candidates}
    results: dict[str, SearchResult] = {}
    for done, question in enumerate(questions, start=1):
        text = judged.queries[question]
        if recalled is None:
            results[question] = engine.search(text, **settings)
        else:
            results[question] = engine.search_recalled(text, recalled[question], **settings)
        if found is not None:
            found(question, results[question])
        progress(done, len(questions), "questions")
    qrels = {question: judged.qrels[question] for question in questions}
    orders = _orders(engine.fusion)
    runs = {name: {question: ranked(result, orders[name]) for question, result in results.items()} for name in ORDERS}
    shown = ORDERS if rerank else ORDERS[:1]
    if engine.words is not None:
        texts = {question: judged.queries[question] for question in questions}
        runs[DENSE], shown = by_vectors(engine, texts, candidates), (DENSE, *shown)
    metrics = {order: measure(qrels, runs[order]) for order in shown}
    timed = list(results.values())
    return Quality(
        **told,
        questions=len(questions),
        read={name: float(np.mean([getattr(result, name) for result in timed])) for name in READ},
        degraded=sum(result.degraded is not None for result in timed),
        device=engine.device.kind,
        recall_weight=engine.fusion.recall_weight,
        lexical_weight=engine.fusion.lexical_weight,
        metrics=metrics,
        latency=percentiles(timed),
        runs={order: runs[order] for order in shown},
    )


def sampled(judged: Judged, sample: int | None, seed: int) -> list[str]:
    """Ids of the judged questions, in their order: `sample` of them drawn with `seed`, or (None) all."""
    questions = sorted(judged.queries)
    if sample is None or sample >= len(questions):
        return questions
    return sorted(random.Random(seed).sample(questions, sample))


def by_vectors(engine: Engine, questions: dict[str, str], count: int) -> Run:
    """The documents of the `count` nearest passages of each question (id → text)."""
    run: Run = {}
    for question, text in questions.items():
        _, rows = engine.collection.index.search(engine.embed([text], "query"), min(count, len(engine.collection)))
        run[question] = list(dict.fromkeys(engine.collection.documents(rows[0])))
    return run


Key = Callable[[Hit], float]
"""What a hit is sorted by."""


def ranked(result: SearchResult, key: Key) -> list[str]:
    """Document ids of the hits by rising `key`; of a document's passages the first counts."""
    return list(dict.fromkeys(hit.document for hit in sorted(result.hits, key=key)))


def _orders(fusion: Fusion) -> dict[str, Key]:
    """What each of ORDERS sorts by. `evidence` is recall and words in common, which no model has to read again;
    `rerank` is the logits' order.
    """
    return {
        "recall": lambda hit: hit.recall_rank,
        "evidence": lambda hit: (
            -hit.recall_score / fusion.recall_scale - fusion.lexical_weight * (hit.lexical_score or 0.0)
        ),
        "rerank": lambda hit: np.inf if hit.rerank_score is None else -hit.rerank_score,
        "fused": lambda hit: hit.rank,
    }


def measure(qrels: Qrels, run: Run) -> dict[str, float]:
    """Each of METRICS over all questions of `qrels`."""
    # trec_eval orders by score and breaks ties by id; the place itself, as the score, keeps our order.
    scored = {query: {name: -float(place) for place, name in enumerate(names)} for query, names in run.items()}
    values = ir_measures.calc_aggregate(list(METRICS.values()), qrels, scored)
    return {name: float(values[metric]) for name, metric in METRICS.items()}


def percentiles(results: Sequence[SearchResult]) -> dict[str, dict[str, float]]:
    """Stage → p50, p95 and p99 of its milliseconds."""
    table = {stage: [getattr(result.timings, stage) for result in results] for stage in asdict(results[0].timings)}
    return {
        stage: dict(zip(("p50", "p95", "p99"), np.percentile(values, (50, 95, 99)).round(3).tolist(), strict=True))
        for stage, values in table.items()
    }


def write_trec_run(path: Path, run: Run, tag: str) -> None:
    """A TREC run file: `query Q0 document rank score tag`, ids percent-encoded where they hold blanks."""
    lines = [
        f"{query} Q0 {quote(name, safe=_PRINTABLE)} {place} {-place} {tag}\n"
        for query, names in run.items()
        for place, name in enumerate(names, 1)
    ]
    path.write_text("".join(lines), encoding="utf-8")


@contextmanager
def hits_file(path: Path, qrels: Qrels) -> Iterator[Callable[..., None]]:
    """A file of JSON lines, one a candidate, for whoever wants to look at the answers or weigh the scores anew.

    Each has `query`, `document`, `passage`, `gain` (its judgement, 0 without one), `score`, `recall_rank`,
    `recall_score`, `lexical_score` and `rerank_score`; and what else the writer is given by name. What was written
    stays when the run is interrupted.
    """
    with storage(path):
        file = path.open("w", encoding="utf-8")
    with file:

        def write(question: str, result: SearchResult, **more: str) -> None:
            grades = qrels[question]
            lines = [
                {"query": question, "document": hit.document, "passage": hit.id, "gain": grades.get(hit.document, 0)}
                | {name: getattr(hit, name) for name in _SCORES}
                | more
                for hit in result.hits
            ]
            with storage(path):
                file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

        yield write


def _has_document(engine: Engine, document: str) -> bool:
    for passage in (document, f"{document}#1"):  # whole, or split
        try:
            engine.collection.row_of(passage)
        except InputError:
            continue
        return True
    return False


def _check_same_corpus(engine: Engine, qrels: Qrels) -> None:
    documents = {document for grades in qrels.values() for document in grades}
    if not any(_has_document(engine, document) for document in documents):
        raise CorpusError(
            f"none of the {len(documents)} judged documents is in {engine.collection.path}: another corpus?"
        )
