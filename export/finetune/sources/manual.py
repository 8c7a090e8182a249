"""Manual pages: the line that says what a command does asks for its description, a heading for the text below it."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from .triple import Triple, fit, plain

# A heading that every page has asks for no page's text.
COMMON = {"name", "synopsis", "description", "options", "author", "authors", "copyright", "see also", "bugs", "notes"}
ESCAPES: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(r"\\f(\[[^]]*\]|\(..|.)"), ""),
    (re.compile(r"\\s[-+]?\d+"), ""),
    (re.compile(r"\\\*?\((..)|\\\*?\[([^]]*)\]"), lambda m: {"aq": "'", "lq": '"', "rq": '"'}.get(m[1] or m[2], "")),
    (re.compile(r"\\[&|^:/,cdu%{}]"), ""),
    (re.compile(r"\\(.)"), r"\1"),
]
FONT = re.compile(r"^\.\s*(B|I|BR|BI|RB|RI|IB|IR|SM|SB|Nm|Fl|Ar|Pa|Xr|Nd|Sy|Em|Cm|Ic|Op|Li)\b ?")


def manual_pages(folder: Path) -> Iterator[Triple]:
    """Triples of the pages `folder`/NAME.SECTION, plain or with .gz; links and other files are passed over."""
    for path in sorted(Path(folder).iterdir()):
        if path.is_file() and not path.is_symlink():
            name, _, section = path.name.removesuffix(".gz").rpartition(".")
            if name:
                yield from page(_read(path), f"{name}({section})")


def page(source: str, title: str) -> Iterator[Triple]:
    """Triples of one page's roff source."""
    summary = ""
    for heading, body in _sections(source):
        kind = heading.lower()
        if kind == "name":
            summary = plain(body).partition(" - ")[2]
        elif kind == "description" and summary:
            yield from fit(summary, body, title)
        elif kind not in COMMON:
            yield from fit(f"{title.partition('(')[0]} {heading.lower()}", body, title)


def _read(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", errors="replace")


def _sections(source: str) -> Iterator[tuple[str, str]]:
    heading, lines = "", list[str]()
    for line in source.splitlines():
        if found := re.match(r"^\.\s*(?:SH|SS|Sh|Ss)\s+(.+)", line):
            yield heading, "\n".join(lines)
            heading, lines = _unescaped(found[1]).strip(' "'), []
        elif text := _text(line):
            lines.append(text)
    yield heading, "\n".join(lines)


def _text(line: str) -> str:
    """What a reader sees of a line: macros that set type keep their words, the others have none."""
    if line.startswith(('.\\"', "'\\\"")):
        return ""
    described = re.match(r"^\.\s*Nd\s", line)
    shown = FONT.sub("", line)
    if shown.startswith((".", "'")):
        return ""
    return ("- " if described else "") + _unescaped(shown if shown is line else shown.replace('"', ""))


def _unescaped(text: str) -> str:
    for pattern, shown in ESCAPES:
        text = pattern.sub(shown, text)
    return text
