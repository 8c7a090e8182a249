"""Texts that are read as they stand: .txt, .md and .rst. Only their titles differ."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import PurePath

from .corpus_file import CorpusFile

Titled = tuple[str, str]
"""A document's title and text."""
_FENCE = ("```", "~~~")
_FRONT_TITLE = re.compile(r"title:\s*(['\"]?)(.+?)\1\s*")
_UNDERLINE = re.compile(r"([=\-`:'\"~^_*+#<>.])\1{2,}\s*")
"""What stands under a heading of reStructuredText."""
_MARKDOWN_UNDERLINE = re.compile(r"=+\s*")


def plain(file: CorpusFile) -> Titled:
    """Text without any form: its title is the file's name."""
    return stem(file), file.whole_text()


def markdown(file: CorpusFile) -> Titled:
    """Markdown: its title is that of its front matter, or its first heading, or the file's name."""
    text = file.whole_text()
    lines = text.splitlines()
    front, body = _front_matter(lines)
    return _named(front) or _markdown_heading(body) or stem(file), text


def rst(file: CorpusFile) -> Titled:
    """reStructuredText: its title is its first heading, or the file's name."""
    text = file.whole_text()
    lines = [line.rstrip() for line in text.splitlines()]
    for heading, below in pairwise(lines):
        if heading and not heading[0].isspace() and not _UNDERLINE.fullmatch(heading) and _underlines(heading, below):
            return heading, text
    return stem(file), text


def stem(file: CorpusFile) -> str:
    """A file's name without its ending."""
    name = PurePath(file.name).name
    return PurePath(name[: -len(".gz")] if name.lower().endswith(".gz") else name).stem


def _underlines(heading: str, below: str) -> bool:
    return len(below) >= len(heading) and _UNDERLINE.fullmatch(below) is not None


def _front_matter(lines: list[str]) -> tuple[list[str], list[str]]:
    """The lines between two of `---` at the beginning, and those after them."""
    if lines and lines[0].rstrip() == "---":
        for number, line in enumerate(lines[1:], 1):
            if line.rstrip() in ("---", "..."):
                return lines[1:number], lines[number + 1 :]
    return [], lines


def _named(front: list[str]) -> str:
    return next((match[2].strip() for line in front if (match := _FRONT_TITLE.fullmatch(line))), "")


def _markdown_heading(lines: list[str]) -> str:
    """The first heading outside of a block of code: `# …`, or a line over one of `=`."""
    fence = ""
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        mark = line.lstrip()[:3]
        if fence or mark in _FENCE:
            fence = "" if mark == fence else fence or mark
        elif line.startswith("#") and line.strip("# "):
            return line.strip("# ")
        elif line.strip() and _MARKDOWN_UNDERLINE.fullmatch(below):
            return line.strip()
    return ""
