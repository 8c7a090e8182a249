"""Dictionaries in dictd's form (dict-gcide, dict-wn, dict-foldoc): "what is X" asks for the entry of X."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

from .triple import Triple, fit

DIGITS = {
    letter: value for value, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
}
WORDINGS = ("what is {}", "{}", "{} meaning", "what does {} mean?", "definition of {}")


def dictionary(index: Path) -> Iterator[Triple]:
    """Triples of the dictionary with `index` (NAME.index), whose entries are in NAME.dict.dz or NAME.dict beside it.

    Headwords of one entry ask once. The wordings take turns.
    """
    body = index.with_suffix(".dict.dz")
    text = gzip.decompress(body.read_bytes()) if body.is_file() else index.with_suffix(".dict").read_bytes()
    told: set[int] = set()
    for line in Path(index).read_text(encoding="utf-8", errors="replace").splitlines():
        word, start, length = line.split("\t")[:3]
        begin = _number(start)
        if begin in told or word.startswith("00-") or not re.match(r"[^\W\d_]", word):
            continue
        told.add(begin)
        entry = text[begin : begin + _number(length)].decode("utf-8", errors="replace")
        yield from fit(WORDINGS[len(told) % len(WORDINGS)].format(word), _tidy(entry), word)


def _number(digits: str) -> int:
    """A number in dictd's base 64, its highest digit first."""
    value = 0
    for digit in digits:
        value = 64 * value + DIGITS[digit]
    return value


def _tidy(entry: str) -> str:
    """Without pronunciations, marks of cross-references and names of the dictionary's own sources."""
    entry = re.sub(r"\\[^\\\n]*\\", "", entry)
    entry = re.sub(r"\[(?:1913 Webster|PJC|WordNet[^\]]*|Webster[^\]]*)\]|\(\d{4}-\d\d-\d\d\)", "", entry)
    return re.sub(r"[{}]", "", entry)
