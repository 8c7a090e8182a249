"""What is measured on: a judged corpus and its collection, made with the bundled models when none is given.

Real questions and passages (a BEIR folder) where there are some; the documentation of Python and numpy otherwise, which
every machine has: a docstring's first sentence asks, the rest of it answers. The bundled reranker was trained on such
pairs of the standard library, so its quality there is no evidence; times, counts and recall are.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engine import Engine
from ..engine.build.beir import Judged, read_judged
from ..engine.build.indexing import index_corpus
from ..engine.collection import IndexSettings, Progress, read_corpus
from ..engine.collection.passage_text import written
from ..engine.collection.report import silent
from ..engine.errors import InputError
from ..engine.models.artifact import WEIGHTS, Artifact
from ..engine.models.cross_encoder import CrossEncoder
from ..engine.scheduling.cost_model import exit_saves
from ..engine.scoring.effort import FINALISTS
from ..engine.search.passage_ids import PassageIds
from .stats import Spread, spread

FOLDER = Path(".bench")
DEMO, DEMO_CORPUS = "python-docs", "python:stdlib,numpy"
ENCODER, RERANKER = "minilm-l6", "minilm-l6-reranker"
SHORTEST_ANSWER = 200
"""Characters that must remain of a docstring without its first sentence, or there is nothing to find."""
LONGEST_QUESTION = 25
"""Words: beyond it the first sentence is a paragraph."""
DEMO_DOCUMENTS = 3000
USUAL_TOKENS = 128
"""Of a pair, where it is only asked which of two ways is shorter."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A collection, judged questions on its corpus (all of them), and what to call the two."""

    name: str
    collection: Path
    judged: Judged

    def questions(self, sample: int, seed: int) -> list[str]:
        """Texts of `sample` questions drawn with `seed`, or of all when there are fewer."""
        return [self.judged.queries[name] for name in self.question_ids(sample, seed)]

    def question_ids(self, sample: int, seed: int) -> list[str]:
        """Ids of `sample` questions drawn with `seed`."""
        return random.Random(seed).sample(sorted(self.judged.queries), min(sample, len(self.judged.queries)))


def prepare(
    collection: Path | None,
    questions: Path | None,
    *,
    folder: Path = FOLDER,
    tell: Callable[[str], None] = lambda message: None,
    progress: Progress = silent,
) -> Workload:
    """The workload of a collection and a BEIR folder; what is missing is made in `folder` with the bundled models.

    Without questions it is the demo corpus. Raises InputError for a collection without questions, CorpusError.
    """
    if collection is not None and questions is None:
        raise InputError(f"which questions is {collection} asked? Give a BEIR folder with --questions")
    name = questions.resolve().name if questions else DEMO
    beir = questions or _demo_beir(folder / DEMO)
    if collection is None:
        collection = folder / "collections" / name
        encoder, reranker = (bundled(model, folder, tell=tell) for model in (ENCODER, RERANKER))
        corpus = next((path for path in (beir / "corpus.jsonl", beir / "corpus.jsonl.gz") if path.exists()), None)
        if corpus is None:
            raise InputError(f"{beir} has no corpus.jsonl to index; give its collection")
        tell(f"{name}: indexing into {collection} (nothing is done when it is there)")
        index_corpus(
            corpus, collection, encoder=encoder, reranker=reranker, settings=IndexSettings(), progress=progress
        )
    return Workload(name, collection, read_judged(beir))


@contextmanager
def opened(workload: Workload, **settings: Any) -> Iterator[Engine]:
    """The workload's collection with its models, on the CPU unless `settings` say otherwise."""
    with Engine.open(workload.collection, **{"device": "cpu", **settings}) as engine:
        yield engine


@contextmanager
def in_fp32(engine: Engine, workload: Workload, **settings: Any) -> Iterator[Engine | None]:
    """The workload's collection again with its reranker in FP32; None where `engine` has it so, or there is none."""
    reranker = engine.reranker
    if reranker is None or reranker.precision == "fp32" or "fp32" not in reranker.artifact.manifest.variants:
        yield None
        return
    with opened(workload, reranker_precision="fp32", early_exit=False, **settings) as plain:
        yield plain


def needed_reranker(engine: Engine) -> CrossEncoder:
    """The engine's reranker; raises InputError when there is none to time."""
    if engine.reranker is None:
        raise InputError(f"{engine.collection.path} has no reranker, so there are no two stages to time")
    return engine.reranker


def needed_passages(engine: Engine) -> PassageIds:
    """The passages as the engine's reranker reads them; raises InputError when there is none."""
    if engine.passages is None:
        raise InputError(f"{engine.collection.path} has no reranker, so there are no pairs to read")
    return engine.passages


def reranked_texts(engine: Engine) -> list[str]:
    """The text of every passage as the cross-encoder reads it."""
    return read_texts(
        engine, np.arange(len(engine.collection)), titled=engine.collection.manifest.settings.rerank_title
    )


def read_texts(engine: Engine, rows: npt.NDArray[np.int64], *, titled: bool) -> list[str]:
    """The texts of the passages `rows` as a model reads them: the title before each where the collection has it so."""
    return written("", engine.collection.titles(rows), engine.collection.texts(rows), titled=titled)


def pair_lengths(
    engine: Engine, reranker: CrossEncoder, questions: Sequence[str], rows: Sequence[npt.NDArray[np.int64]]
) -> list[npt.NDArray[np.int64]]:
    """For each question, int64 [candidates]: tokens of its pairs as the cross-encoder reads them."""
    tokenizer, passages = reranker.tokenizer, needed_passages(engine)
    return [
        tokenizer.pairs(tokenizer.encode(question), passages.tokens(some)).lengths
        for question, some in zip(questions, rows, strict=True)
    ]


def reads_twice(engine: Engine, candidates: int) -> bool:
    """Whether so many candidates are read in two passes, first by an early exit: where it saves time on usual pairs."""
    reranker = engine.reranker
    early = None if reranker is None or reranker.early is None else reranker.early.cost
    return reranker is not None and exit_saves(np.full(candidates, USUAL_TOKENS), reranker.cost, early, FINALISTS)


def described(
    workload: Workload, engine: Engine, questions: Sequence[str], pairs: Sequence[npt.NDArray[np.int64]], **more: Any
) -> dict[str, Any]:
    """The part of a document that says what was measured: sizes and length distributions, in tokens."""
    question_lengths = [int(n) for n in engine.encoder.tokenizer.encode_many(list(questions)).lengths]
    return {
        "name": workload.name,
        "passages": len(engine.collection),
        "questions": len(questions),
        "question_tokens": spread(question_lengths),
        "pair_tokens": spread(np.concatenate(pairs).tolist()) if pairs else None,
        "index": [segment.record.index.kind for segment in engine.collection.segments],
        **model_names(engine),
        "threads": engine.device.threads,
        **more,
    }


def model_names(engine: Engine) -> dict[str, Any]:
    """Name and precision of both models, and the beginning of their weights' sha256: names outlive trainings."""
    named: dict[str, str | None] = {}
    weights: dict[str, str | None] = {}
    for role, model in (("encoder", engine.encoder), ("reranker", engine.reranker)):
        named[role] = None if model is None else f"{model.artifact.manifest.name} {model.precision}"
        weights[role] = None if model is None else weights_of(model.artifact)
    return {**named, "weights": weights}


def weights_of(artifact: Artifact) -> str:
    """The first eight digits of the sha256 of an artifact's weights."""
    return artifact.manifest.files[WEIGHTS].sha256[:8]


def said(workload: dict[str, Any]) -> str:
    """A workload's description in one sentence."""
    pairs: Spread | None = workload["pair_tokens"]
    lengths = f", pairs of {pairs['p50']:.0f} tokens (p95 {pairs['p95']:.0f})" if pairs else ""
    return (
        f"{workload['name']}: {workload['passages']:,} passages, {workload['questions']} questions of "
        f"{workload['question_tokens']['p50']:.0f} tokens (p95 {workload['question_tokens']['p95']:.0f}){lengths}, "
        f"{workload['threads']} threads"
    )


def bundled(name: str, folder: Path = FOLDER, *, tell: Callable[[str], None]) -> Path:
    """The artifact of a bundled model, exported into `folder` unless it is there."""
    from ..export.bundled_artifacts import exported

    return exported(name, folder / "models" / name, tell)


def _demo_beir(folder: Path) -> Path:
    """The demo corpus as a BEIR folder, written once: the same texts on every machine with these packages."""
    if (folder / "qrels" / "test.tsv").exists():
        return folder
    from ..export.parity.samples import first_sentence

    corpus, queries, qrels, asked = [], [], ["query-id\tcorpus-id\tscore"], set()
    for document in read_corpus(DEMO_CORPUS):
        question = first_sentence(document.text)
        words = len(question.split())
        answer = "".join(document.text.split(None, words)[words:])
        if len(answer) < SHORTEST_ANSWER or not 4 <= words <= LONGEST_QUESTION or question in asked:
            continue
        asked.add(question)
        corpus.append({"_id": document.id, "title": document.title, "text": answer})
        queries.append({"_id": document.id, "text": question})
    kept = sorted(random.Random(0).sample(range(len(corpus)), min(DEMO_DOCUMENTS, len(corpus))))
    qrels += [f"{queries[row]['_id']}\t{corpus[row]['_id']}\t1" for row in kept]
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(rows[row]) + "\n" for row in kept), encoding="utf-8")
    (folder / "qrels" / "test.tsv").write_text("\n".join(qrels) + "\n", encoding="utf-8")
    return folder
