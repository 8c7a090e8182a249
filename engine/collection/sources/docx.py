"""DOCX → text, through python-docx: paragraphs and tables in their order."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from typing import Any

from .corpus_file import CorpusFile, Unusable
from .prose import Titled, stem

_HEADINGS = ("Title", "Heading 1")
"""Styles of a paragraph that is what the document is called."""


def docx(file: CorpusFile) -> Titled:
    """A DOCX: its title is the one that it names, or its first heading, or the file's name. Raises Unusable."""
    library: Any = importlib.import_module("docx")
    data = file.whole()
    try:
        document = library.Document(io.BytesIO(data))
        text = "\n".join(_lines(document)).strip()
        title = (document.core_properties.title or "").strip() or _heading(document)
    except Exception as error:  # a broken file makes zipfile, lxml or python-docx raise
        raise Unusable(f"the DOCX cannot be read ({type(error).__name__}: {error})") from error
    return title or stem(file), text


def _lines(part: Any) -> Iterator[str]:
    """The lines of a document or of a cell; a row of a table is one, its cells apart by tabs."""
    for block in part.iter_inner_content():
        if hasattr(block, "rows"):
            for row in block.rows:
                yield "\t".join(" ".join(_lines(cell)) for cell in _different(row.cells))
        else:
            yield block.text


def _different(cells: Any) -> Iterator[Any]:
    """Cells, each once where it is as wide as several."""
    before = None
    for cell in cells:
        if cell is not before:
            yield cell
        before = cell


def _heading(document: Any) -> str:
    named = (each.text.strip() for each in document.paragraphs if each.style and each.style.name in _HEADINGS)
    return next(filter(None, named), "")
