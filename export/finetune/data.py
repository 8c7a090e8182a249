"""Where labelled text comes from: BEIR folders, Python's documentation, and texts that a machine has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...engine.build.beir import read_judged
from ...engine.collection.corpus import open_corpus
from ...engine.collection.document import Document
from ...engine.collection.python_corpus import PREFIX
from ...engine.errors import CorpusError
from .labelled import Labelled, Question
from .sources import SOURCES
from .sources.triple import dataset

SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"(])")


def read_source(name: str | Path, splits: Sequence[str]) -> Labelled:
    """A BEIR folder with the first of `splits` that it has, else its only one; `python:NAME[,NAME…]`; or `KIND:PATH`
    with one of SOURCES, which has no splits.

    Questions whose judgements (score > 0) name no passage of the corpus are left out. Raises CorpusError when a file is
    missing or malformed, or when no judged question is left.
    """
    if str(name).startswith(PREFIX):
        return _documentation(str(name))
    kind, _, path = str(name).partition(":")
    if kind in SOURCES and path:
        return _harvested(str(name), kind, Path(path))
    folder = Path(name)
    judged = read_judged(folder, next((split for split in splits if _has(folder, split)), None))
    passages = list(open_corpus(folder))
    rows = {passage.id: row for row, passage in enumerate(passages)}
    questions = []
    for identity, text in judged.queries.items():
        found = tuple(rows[row] for row, grade in judged.qrels[identity].items() if grade > 0 and row in rows)
        if found and text.strip():
            questions.append(Question(text, found))
    if not questions:
        raise CorpusError(f"{folder} has no judged question: no line of its qrels names a query and passage it holds")
    return Labelled(folder.resolve().name, passages, questions)


def _has(folder: Path, split: str) -> bool:
    return any((folder / "qrels" / f"{split}.tsv{end}").is_file() for end in ("", ".gz"))


def _documentation(name: str) -> Labelled:
    """A docstring's first sentence asks, the rest of it answers; a module is a document."""
    found = Labelled(name, [], [])
    for thing in open_corpus(name):
        first, _, body = thing.text.partition("\n\n")
        question = SENTENCE.split(" ".join(first.split()))[0].rstrip(".")
        if len(question.split()) >= 4 and len(body.split()) >= 15 and "deprecated" not in question.lower():
            found.questions.append(Question(question, (len(found.passages),)))
            found.passages.append(Document(thing.id, str(thing.metadata["module"]), body))
    if not found.questions:
        raise CorpusError(f"{name} has no docstring of more than one paragraph; name other packages")
    return found


def _harvested(name: str, kind: str, path: Path) -> Labelled:
    if not path.exists():
        raise CorpusError(f"{name}: {path} does not exist; give {SOURCES[kind].what}")
    try:
        found = dataset(name.replace("/", "_"), SOURCES[kind].read(path))
    except (OSError, ValueError, LookupError) as error:  # of another form, or half a file
        raise CorpusError(f"{name} cannot be read ({error}); give {SOURCES[kind].what}") from error
    if not found.questions:
        raise CorpusError(f"{name} has no question with an answer of fifteen words; give {SOURCES[kind].what}")
    return found
