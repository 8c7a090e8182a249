"""HTML → text, through the standard library's parser: what a browser shows, a line a block."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from .corpus_file import CorpusFile
from .prose import Titled, stem

UNSEEN = frozenset({"script", "style", "template", "noscript", "title", "svg", "iframe"})
"""Elements whose text is no text of the page."""
BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "br", "caption", "center", "dd", "details", "dialog", "div",
    "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header",
    "hr", "html", "li", "main", "nav", "ol", "p", "pre", "section", "summary", "table", "tbody", "tfoot", "thead",
    "tr", "ul",
})  # fmt: skip
"""Elements that begin and end on a line of their own."""
CELLS = frozenset({"td", "th"})
_SPACES = re.compile(r"[ \t\r\n\f]+")
_KEPT = frozenset({"pre", "textarea"})
"""Elements in which white space and line ends stay."""


def html(file: CorpusFile) -> Titled:
    """A page: its title is that of its head, or its first h1, or the file's name. Raises Unusable."""
    page = _Page()
    page.feed(file.whole_text())
    page.close()
    return page.title or page.heading or stem(file), page.text


class _Page(HTMLParser):
    """Collects pieces of text as a page is parsed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._pieces: list[str] = []
        self._line = ""
        """The last piece of the line so far; empty where the line has nothing yet."""
        self._unseen: list[str] = []
        self._kept = 0
        self._title: list[str] = []
        self._heading: list[str] = []
        self._in_heading = False

    @property
    def text(self) -> str:
        lines = (line.rstrip() for line in "".join(self._pieces).split("\n"))
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")

    @property
    def title(self) -> str:
        return " ".join("".join(self._title).split())

    @property
    def heading(self) -> str:
        return " ".join("".join(self._heading).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in UNSEEN:
            self._unseen.append(tag)
        if self._unseen:
            return
        if tag in BLOCKS:
            self._break(tag)
        elif tag in CELLS and self._line:
            self._add("\t")
        self._kept += tag in _KEPT
        self._in_heading = self._in_heading or (tag == "h1" and not self.heading)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in BLOCKS and not self._unseen:  # `<script/>` opens nothing here, as in XHTML
            self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._unseen:
            while self._unseen.pop() != tag:
                pass
            return
        if self._unseen:
            return
        self._kept = max(0, self._kept - (tag in _KEPT))
        self._in_heading = self._in_heading and tag != "h1"
        if tag in BLOCKS:
            self._break(tag)

    def handle_data(self, data: str) -> None:
        if self._unseen:
            if self._unseen == ["title"]:
                self._title.append(data)
            return
        if self._in_heading:
            self._heading.append(data)
        if self._kept:
            self._add(data)
            return
        words = _SPACES.sub(" ", data)
        self._add(words.lstrip(" ") if not self._line or self._line[-1] in " \t" else words)

    def _add(self, piece: str) -> None:
        if piece:
            self._pieces.append(piece)
            self._line = piece.rpartition("\n")[2]

    def _break(self, tag: str) -> None:
        """End the line, if there is one; around a paragraph there is an empty one too."""
        self._pieces.append("\n" if self._line else "")
        self._pieces.append("\n" if tag == "p" else "")
        self._line = ""
