"""From sources to data sets on disk: read, hold back, recall, draw lists, keep."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, load_from_disk

from ...engine.collection.python_corpus import PREFIX
from ...engine.errors import ExportError, InputError
from ..quiet import quiet
from .data import read_source
from .judge import Judge
from .labelled import Labelled, Question, documents, drawn
from .lists import Row, dataset, judged_lists, training_lists
from .recall import Recaller, Rows
from .settings import FinetuneSettings
from .teacher import Teacher

log = logging.getLogger(__name__)
LISTS, TRAIN, VALIDATE, COUNTS = "lists", "train", "validate", "counts.json"
# Which documents are held back follows these settings.
DRAWN = {"seed", "passages", "held_out"}
# The splits that validate, the first that a folder has.
ASKED = ("dev", "test")


@dataclass(frozen=True, slots=True)
class Sources:
    """Folders, or `python:NAME`: what is trained on, and what only validates."""

    data: tuple[str, ...]
    validate: tuple[str, ...] = ()

    def all(self) -> list[tuple[str, bool]]:
        """Each source, and whether it only validates."""
        return [(name, False) for name in self.data] + [(name, True) for name in self.validate]

    def mark(self) -> list[tuple[str, int]]:
        """What changes with the files."""
        names = [name for name, _ in self.all()]
        files = sorted(file for name in names for file in Path(name).rglob("*") if file.is_file())
        named = [(name, 0) for name in names if name.startswith(PREFIX)]
        return [*named, *((f"{file.parent.name}/{file.name}", file.stat().st_size) for file in files)]

    def drawn(self, settings: FinetuneSettings) -> str:
        """The same for trainings that hold the same documents back."""
        said = [self.mark(), self.validate, settings.model_dump(include=DRAWN)]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The validation lists by domain, and how many lists each source gives the training."""

    domains: dict[str, Dataset]
    counts: dict[str, int]


def prepare(
    sources: Sources,
    settings: FinetuneSettings,
    recall: Recaller,
    judge: Judge | None,
    work: Path,
    *,
    teacher: Callable[[], Teacher] | None = None,
    train: bool = True,
) -> Prepared:
    """The lists of a training (with `train`) and of its validation, kept in `work` for a run that goes on.

    A `teacher` is loaded when all lists of the training are drawn, and gives them its cosines.

    Validation asks about whole sources where some validate; else about documents that each source holds back, among
    all its passages: a few hundred are too easy, and a reranker that has .98 among those has .84 among thousands
    (bench/LOG.md).

    Raises CorpusError for data that cannot be read and ExportError when nothing is left to train on or to ask.
    """
    if not (work / LISTS).is_dir():
        partial = work / f"{LISTS}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        _write(sources, settings, recall, judge, teacher, partial, train)
        partial.rename(work / LISTS)
    return Prepared(validation_lists(work), json.loads((work / LISTS / COUNTS).read_text()))


def validation_lists(work: Path) -> dict[str, Dataset]:
    """Those that `prepare` left in `work`, by domain."""
    return {path.name: load_from_disk(str(path)) for path in sorted((work / LISTS / VALIDATE).iterdir())}


def _write(
    sources: Sources, settings: FinetuneSettings, recall: Recaller, judge: Judge | None,
    teacher: Callable[[], Teacher] | None, folder: Path, train: bool,
) -> None:  # fmt: skip
    counts: dict[str, int] = {}
    rows: list[Row] = []
    for index, (name, validates) in enumerate(sources.all()):
        rng = np.random.default_rng((settings.seed, index))
        source = drawn(read_source(name, ASKED if validates else ("train",)), settings.passages, rng)
        held = np.arange(len(source.passages)) if validates else _held(source, name, sources, settings, rng)
        own, asked = _questions(source, held, settings, rng)
        own, asked = own if train else [], asked if validates or not sources.validate else []
        if not own and not asked:
            continue
        recalled = recall(source, [*own, *asked])
        lists = training_lists(recalled, len(own), held, settings, judge, rng)
        known = judged_lists(
            recalled, range(len(own), len(own) + len(asked)), settings.validation_questions,
            settings.validation_candidates, complete=False,
        )  # fmt: skip
        log.info("%s: %d lists to train on, %d to validate", source.name, len(lists), len(known))
        rows += lists
        if lists:
            counts[source.name] = len(lists)
        if known:
            if (folder / VALIDATE / source.name).exists():
                raise InputError(f"two sources are called {source.name}; rename one folder")
            _keep(known, folder / VALIDATE / source.name)
    if train and not rows:
        raise ExportError("the training set is empty: the data has too few questions and passages to train on")
    if not (folder / VALIDATE).is_dir():
        raise ExportError(
            "no question is left for validation, since recall finds no answer: check that the qrels fit the corpus, or "
            "give data with more documents (by title)"
        )
    if train:
        if teacher is not None:
            teacher().teach(rows)
        order = np.random.default_rng((settings.seed, len(rows))).permutation(len(rows))
        _keep([rows[row] for row in order], folder / TRAIN)
    (folder / COUNTS).write_text(json.dumps(counts))


def _keep(rows: list[Row], folder: Path) -> None:
    with quiet():
        dataset(rows).save_to_disk(str(folder))


def _held(source: Labelled, name: str, sources: Sources, settings: FinetuneSettings, rng: np.random.Generator) -> Rows:
    """Rows of the passages that validation asks about: a fifth of them at most where no source validates.

    Where the folder `name` is given for both uses, these are the answers of its other split.
    """
    if not sources.validate:
        few = min(settings.held_out, len(source.passages) // 5)
        return np.array(sorted(documents(source, few, rng)), dtype=np.int64)
    if name not in sources.validate:
        return np.array([], dtype=np.int64)
    other = read_source(name, ASKED)
    answers = {other.passages[row].id for question in other.questions for row in question.positives}
    return np.flatnonzero([passage.id in answers for passage in source.passages])


def _questions(
    source: Labelled, held: Rows, settings: FinetuneSettings, rng: np.random.Generator
) -> tuple[list[Question], list[Question]]:
    """Questions to train on and to ask: an answer that is held back and one that is not make a question neither."""
    inside = [np.isin(question.positives, held) for question in source.questions]
    own = [question for question, each in zip(source.questions, inside, strict=True) if not each.any()]
    asked = [question for question, each in zip(source.questions, inside, strict=True) if each.all()]
    if len(source.passages) <= settings.negatives:
        own = []  # a list could not be filled
    return _some(own, settings.questions, rng), _some(asked, 2 * settings.validation_questions, rng)


def _some(questions: list[Question], count: int, rng: np.random.Generator) -> list[Question]:
    return [questions[row] for row in sorted(rng.permutation(len(questions))[:count])]
