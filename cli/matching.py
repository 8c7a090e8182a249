"""Which words of a passage a question asks for, and the part of the passage that holds most of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from .text import one_line

MATCH = "bold yellow"
# A word; of Chinese and Japanese, which write none apart, a character.
_CJK = "\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
# Words of English that stand in every passage: to mark them would tell nothing.
_ENGLISH = """
a an and are as at be been but by can could did do does for from had has have how i if in into is it its me my no not of
on or our should so than that the their them then there these they this to was we were what when where which who whom
whose why will with would you your
"""
_COMMON = frozenset(_ENGLISH.split())
_ENDINGS = (("ies", "y", 2), ("ing", "", 4), ("ed", "", 3), ("es", "", 3), ("s", "", 3), ("e", "", 3))
"""An ending, what stands for it, and letters that must remain: enough to find `parsing` for `parse`."""
_LEAD = 0.25
"""Share of an excerpt that may come before its first match: readers want to know what a sentence began with."""
_WIDEST = 8
"""Characters of an excerpt for one cell of a terminal, at most: combining characters take no cell at all."""


_CONSIDERED = 200
"""Matches of a passage that an excerpt may begin with: a document of a megabyte has thousands."""


@dataclass(frozen=True, slots=True)
class Match:
    """Characters [start, end) of a text are a word whose stem the question has too."""

    start: int
    end: int
    stem: str


def excerpt(text: str, question: str, cells: int) -> Text:
    """The part of `text` that holds most of what `question` asks for, those words marked, in one line of at most
    `cells` cells of a terminal. Text that was left out is `…`."""
    line = one_line(text)
    room = min(int(cells * len(line) / max(cell_len(line), 1)), _WIDEST * cells)
    matches = find(line, question)
    begin = _begin(line, matches, room)
    before = "… " if begin else ""
    shown = Text(before + line[begin : begin + room])
    for match in matches:
        if begin <= match.start < begin + room:
            shown.stylize(MATCH, match.start - begin + len(before), match.end - begin + len(before))
    if begin + room < len(line):
        shown.append(" …")
    shown.truncate(cells, overflow="ellipsis")
    return shown


def find(text: str, question: str) -> list[Match]:
    """Every word of `text` that `question` has too, in whatever case or ending; its common words count only when it
    has no others."""
    asked = [word.casefold() for word in _WORD.findall(question)]
    wanted = {stem(word) for word in asked if word not in _COMMON} or {stem(word) for word in asked}
    words = ((match, stem(match[0].casefold())) for match in _WORD.finditer(text))
    return [Match(match.start(), match.end(), found) for match, found in words if found in wanted]


def stem(word: str) -> str:
    """`word`, in lower case, without one of the commonest English endings."""
    for ending, instead, least in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= least and not word.endswith("ss"):
            return word[: len(word) - len(ending)] + instead
    return word


def _begin(line: str, matches: list[Match], room: int) -> int:
    """Where an excerpt of `room` characters holds most different words; 0 where it may as well be the beginning."""
    if len(line) <= room or not matches:
        return 0
    some = matches[:_CONSIDERED]
    held = [len({other.stem for other in some[i:] if other.end <= match.start + room}) for i, match in enumerate(some)]
    first = some[held.index(max(held))]
    if first.start <= room * _LEAD:
        return 0
    begin = first.start - int(room * _LEAD)
    return line.find(" ", begin, first.start) + 1 or begin
