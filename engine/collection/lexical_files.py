"""The files with the words of a version's passages, made of its other files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..recall.lexical_index import LexicalWriter
from ..recall.words import Language, of_ids
from .document import with_title
from .manifest import TokenDtype
from .ragged import Ragged
from .report import Progress
from .token_files import TOKENS

PASSAGES = 4096
"""Read at a time."""


def write_words(folder: Path, language: Language, token_dtype: TokenDtype | None, progress: Progress) -> None:
    """Index the words of the passages whose texts and token ids are in `folder`, into it; raises StorageError."""
    passages = Ragged.open(folder / "texts", np.uint8)
    texts = _ids(folder, token_dtype) if language == "other" and token_dtype else _texts(folder, passages)
    writer = LexicalWriter(folder, language, len(passages))
    for done, text in enumerate(texts):
        writer.append(text)
        if done % PASSAGES == 0:
            progress(done, len(passages), "indexing words")
    writer.close()


def _texts(folder: Path, texts: Ragged) -> Iterator[str]:
    """Each passage with its title, which often has the word that is asked for."""
    titles = Ragged.open(folder / "titles", np.uint8)
    for start in range(0, len(texts), PASSAGES):
        rows = np.arange(start, min(start + PASSAGES, len(texts)))
        for title, text in zip(titles.strings(rows), texts.strings(rows), strict=True):
            yield with_title(title, text)


def _ids(folder: Path, token_dtype: TokenDtype) -> Iterator[str]:
    tokens = Ragged.open(folder / TOKENS, token_dtype)
    for row in range(len(tokens)):
        yield of_ids(tokens[row].tolist())
