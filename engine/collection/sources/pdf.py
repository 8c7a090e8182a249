"""PDF → text, through pypdf: the text of its pages, which a scan does not have."""

from __future__ import annotations

import importlib
import io
import logging
from typing import Any

from .corpus_file import CorpusFile, Unusable
from .prose import Titled, stem


def pdf(file: CorpusFile) -> Titled:
    """A PDF: its title is the one that it names, or the file's name. Raises Unusable."""
    pypdf: Any = importlib.import_module("pypdf")
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of each slip that it mends, and names no file
    data = file.whole()
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unusable("the PDF needs a password; save it without one")
        pages = [page.extract_text().strip() for page in reader.pages]
        title = _title(reader)
    except Unusable:
        raise
    except Exception as error:  # a broken file makes pypdf raise whatever its objects are mistaken for
        raise Unusable(f"the PDF cannot be read ({type(error).__name__}: {error})") from error
    text = "\n\n".join(filter(None, pages))
    if not text:
        raise Unusable("the PDF holds no text, as a scan does not; recognise its text first")
    return title or stem(file), text


def _title(reader: Any) -> str:
    information = reader.metadata
    title = None if information is None else information.title
    return title.strip() if isinstance(title, str) else ""
