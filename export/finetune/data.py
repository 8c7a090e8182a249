"""Labelled text: BEIR folders (plain or gzipped), and the split that keeps validation apart by whole documents."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...engine.errors import CorpusError

# The splits a training reads; a folder that has none of them but one other split is read with that one.
SPLITS = ("train", "test", "dev")


@dataclass(frozen=True, slots=True)
class Passage:
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    positives: tuple[int, ...]
    """Rows of the data set's passages that answer it."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Passages and the questions they answer. Passages of one title are one document."""

    name: str
    passages: list[Passage]
    questions: list[Question]


def read_beir(folder: Path) -> Dataset:
    """The BEIR folder `folder`: corpus.jsonl, queries.jsonl and qrels/<split>.tsv, each plain or with `.gz`.

    Questions whose judgements (score > 0) name no passage of the corpus are left out.
    Raises CorpusError when a file is missing or malformed, or when no judged question is left.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CorpusError(f"{folder} is not a folder; training data is a BEIR folder (corpus, queries, qrels)")
    passages: list[Passage] = []
    rows: dict[str, int] = {}
    for record in _records(_find(folder, "corpus.jsonl")):
        rows[record["_id"]] = len(passages)
        passages.append(Passage(str(record.get("title") or ""), str(record.get("text") or "")))
    texts = {record["_id"]: str(record.get("text") or "") for record in _records(_find(folder, "queries.jsonl"))}
    positives: dict[str, list[int]] = {}
    for question, passage in _judgements(_qrels(folder)):
        if question in texts and passage in rows:
            positives.setdefault(question, []).append(rows[passage])
    questions = [Question(texts[name], tuple(found)) for name, found in positives.items() if texts[name].strip()]
    if not questions:
        raise CorpusError(f"{folder} has no judged question: no line of its qrels names a query and passage it holds")
    return Dataset(folder.name, passages, questions)


def thin(dataset: Dataset, passages: int, rng: np.random.Generator) -> Dataset:
    """Whole documents of `dataset`, drawn until they hold about `passages` passages."""
    if len(dataset.passages) <= passages:
        return dataset
    kept, _ = _draw(dataset, passages, rng)
    return _subset(dataset, kept, dataset.name)


def hold_out(dataset: Dataset, passages: int, rng: np.random.Generator) -> tuple[Dataset, Dataset]:
    """`dataset` without, and with only, documents of about `passages` passages: no passage and no title is shared.

    A question belongs to the side that has all of its positives, or to neither.
    """
    out, rest = _draw(dataset, passages, rng)
    return _subset(dataset, rest, dataset.name), _subset(dataset, out, dataset.name)


def _draw(dataset: Dataset, passages: int, rng: np.random.Generator) -> tuple[set[int], set[int]]:
    documents: dict[str, list[int]] = {}
    for row, passage in enumerate(dataset.passages):
        documents.setdefault(passage.title or f"\0{row}", []).append(row)
    names = list(documents)
    taken: set[int] = set()
    for index in rng.permutation(len(names)):
        if len(taken) >= passages:
            break
        taken.update(documents[names[index]])
    return taken, set(range(len(dataset.passages))) - taken


def _subset(dataset: Dataset, rows: set[int], name: str) -> Dataset:
    order = sorted(rows)
    new = {row: index for index, row in enumerate(order)}
    questions = [
        Question(question.text, tuple(new[row] for row in question.positives))
        for question in dataset.questions
        if all(row in new for row in question.positives)
    ]
    return Dataset(name, [dataset.passages[row] for row in order], questions)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise CorpusError(f"{folder} has neither {name} nor {name}.gz; training data is a BEIR folder")


def _qrels(folder: Path) -> Path:
    found = {path.name.split(".")[0]: path for path in sorted((folder / "qrels").glob("*.tsv*"))}
    for split in SPLITS:
        if split in found:
            return found[split]
    if len(found) == 1:
        return next(iter(found.values()))
    have = f"only {', '.join(found)}" if found else "none"
    raise CorpusError(f"{folder} has no qrels/train.tsv or qrels/train.tsv.gz ({have}); training needs judgements")


def _lines(path: Path) -> Iterator[str]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            yield from file
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read ({error}); copy the file again") from error


def _records(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise CorpusError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(record, dict) or not isinstance(record.get("_id"), str):
            raise CorpusError(f"{path}, line {number}: no object with a string `_id`")
        yield record


def _judgements(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_lines(path), start=1):
        fields = line.rstrip("\n").split("\t")
        if number == 1 and fields[0] in ("query-id", "query_id"):
            continue
        if len(fields) != 3 or not fields[2].strip().lstrip("-").isdigit():
            raise CorpusError(f"{path}, line {number}: not `query-id<TAB>corpus-id<TAB>score`")
        if int(fields[2]) > 0:
            yield fields[0], fields[1]
