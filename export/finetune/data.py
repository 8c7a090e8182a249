"""Labelled text: BEIR folders (plain or gzipped), and the split that keeps validation apart by whole documents."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...engine.build.beir import read_judged
from ...engine.errors import CorpusError


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


def read_beir(folder: Path, split: str | None = None) -> Dataset:
    """The BEIR folder `folder`: corpus.jsonl, queries.jsonl and qrels/<split>.tsv, each plain or with `.gz`.

    Questions whose judgements (score > 0) name no passage of the corpus are left out.
    Raises CorpusError when a file is missing or malformed, or when no judged question is left.
    """
    folder = Path(folder)
    judged = read_judged(folder, split or _split(folder))
    passages: list[Passage] = []
    rows: dict[str, int] = {}
    for name, passage in _corpus(_find(folder, "corpus.jsonl")):
        rows[name] = len(passages)
        passages.append(passage)
    questions = []
    for name, text in judged.queries.items():
        found = tuple(rows[row] for row, grade in judged.qrels[name].items() if grade > 0 and row in rows)
        if found and text.strip():
            questions.append(Question(text, found))
    if not questions:
        raise CorpusError(f"{folder} has no judged question: no line of its qrels names a query and passage it holds")
    return Dataset(folder.name, passages, questions)


def thin(dataset: Dataset, passages: int, rng: np.random.Generator) -> tuple[Dataset, Dataset]:
    """Whole documents of `dataset`, drawn until they hold about `passages` passages, and the documents left."""
    if len(dataset.passages) <= passages:
        return dataset, Dataset(dataset.name, [], [])
    kept, left = _draw(dataset, passages, rng)
    return _subset(dataset, kept, dataset.name), _subset(dataset, left, dataset.name)


def joined(first: Dataset, second: Dataset) -> Dataset:
    """The passages and questions of both, under the name of the first."""
    shift = len(first.passages)
    moved = [Question(question.text, tuple(row + shift for row in question.positives)) for question in second.questions]
    return Dataset(first.name, first.passages + second.passages, first.questions + moved)


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


def _split(folder: Path) -> str | None:
    """The training split, if the folder has one; else None: the only split there is."""
    return "train" if any((folder / "qrels" / f"train.tsv{end}").is_file() for end in ("", ".gz")) else None


def _corpus(path: Path) -> Iterator[tuple[str, Passage]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _passage(line, path, number)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read ({error}); copy the file again") from error


def _passage(line: str, path: Path, number: int) -> tuple[str, Passage]:
    try:
        record = json.loads(line)
        return str(record["_id"]), Passage(str(record.get("title") or ""), str(record["text"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorpusError(f'{path}:{number}: a passage is {{"_id": …, "title": …, "text": …}} ({error!r})') from error
