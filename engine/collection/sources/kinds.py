"""Which ending is which kind of file, and what reads it. Each ending may have .gz behind it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath

from . import delimited, docx, html_page, json_list, jsonl, parquet, pdf, prose
from .corpus_file import CorpusFile
from .prose import Titled
from .rows import RowFile

GZ = ".gz"
NO_ENDING = "without an ending"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file, with one of the two: `rows` opens a file of rows, `document` reads one that is a document.

    is_text: its bytes are text, in an encoding that must be found out
    module, extra: what must be installed for it, and the part of Tandem that brings it
    """

    endings: tuple[str, ...]
    rows: Callable[[CorpusFile], RowFile] | None = None
    document: Callable[[CorpusFile], Titled] | None = None
    is_text: bool = True
    module: str = ""
    extra: str = ""

    @property
    def missing(self) -> str:
        """What to install before such files can be read; nothing where it is there."""
        there = not self.module or importlib.util.find_spec(self.module) is not None
        return "" if there else f"pip install 'tandem[{self.extra}]'"


KINDS = (
    Kind((".txt",), document=prose.plain),
    Kind((".md", ".markdown"), document=prose.markdown),
    Kind((".rst",), document=prose.rst),
    Kind((".html", ".htm"), document=html_page.html),
    Kind((".csv",), rows=delimited.open_rows),
    Kind((".tsv",), rows=partial(delimited.open_rows, tabs=True)),
    Kind((".json",), rows=json_list.open_rows),
    Kind((".jsonl", ".ndjson"), rows=jsonl.open_rows),
    Kind((".parquet",), rows=parquet.open_rows, is_text=False, module="pyarrow", extra="parquet"),
    Kind((".pdf",), document=pdf.pdf, is_text=False, module="pypdf", extra="documents"),
    Kind((".docx",), document=docx.docx, is_text=False, module="docx", extra="documents"),
)
_BY_ENDING = {ending: kind for kind in KINDS for ending in kind.endings}
ENDINGS = tuple(_BY_ENDING)


def ending_of(name: str) -> str:
    """What a file's name ends in, in lower case and without .gz; NO_ENDING where there is nothing."""
    lower = name.lower()
    inner = PurePath(lower.removesuffix(GZ)).suffix
    return inner or PurePath(lower).suffix or NO_ENDING


def kind_of_file(name: str) -> Kind | None:
    """The kind of a file by its name; None where no reader knows it."""
    return _BY_ENDING.get(ending_of(name))
