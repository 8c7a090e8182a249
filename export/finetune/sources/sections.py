"""Documentation in sections (info files, reStructuredText): a heading asks for the text below it."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

from .triple import Triple, fit

UNDERLINED = re.compile(r"^(\S[^\n]{2,100})\n([*=\-.~^\"#+])\2{2,}[ \t]*$", re.MULTILINE)
MARKS = [
    (re.compile(r"^\.\. +(?:module|moduleauthor|sectionauthor|index|_|highlight|toctree).*$(?:\n +.*$)*", re.M), ""),
    (re.compile(r"^\.\. +[\w:-]+:: *", re.M), ""),
    (re.compile(r"^ +:\w+:.*$", re.M), ""),
    (re.compile(r":[\w:-]+:`[~!]?([^`<]+?)(?: *<[^>`]*>)?`"), r"\1"),
    (re.compile(r"``|\*\*|`_+"), ""),
]


def info_files(folder: Path) -> Iterator[Triple]:
    """Triples of the nodes of every info file in `folder`, plain or with .gz."""
    for path in sorted(Path(folder).iterdir()):
        if re.search(r"\.info(-\d+)?(\.gz)?$", path.name):
            manual = path.name.partition(".info")[0]
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            for node in data.decode("utf-8", errors="replace").split("\x1f")[1:]:
                # A node's first line says where it is, and its menu what is below it.
                text = re.split(r"^\* Menu:", node.lstrip("\n").partition("\n")[2], flags=re.MULTILINE)[0]
                yield from headed(text, manual)


def restructured(folder: Path, ends: str = ".rst") -> Iterator[Triple]:
    """Triples of every reStructuredText file below `folder` whose name has `ends` in it."""
    for path in sorted(Path(folder).rglob(f"*{ends}*")):
        text = path.read_text(encoding="utf-8", errors="replace")
        for pattern, shown in MARKS:
            text = pattern.sub(shown, text)
        yield from headed(text, path.name.partition(".")[0])


def headed(text: str, group: str) -> Iterator[Triple]:
    """Triples of a text with underlined headings; a heading's number is no part of the question."""
    found = list(UNDERLINED.finditer(text))
    for place, heading in enumerate(found):
        end = found[place + 1].start() if place + 1 < len(found) else len(text)
        question = re.sub(r"^[\dA-Z]?[\d.]+ +", "", heading[1])
        yield from fit(question, text[heading.end() : end], group)
