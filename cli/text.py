"""Foreign text (passages, ids, titles, file names, messages that quote them) made safe to print."""

from __future__ import annotations

import re

# What a terminal would obey instead of show: C0 with DEL, C1 (a byte of them begins an escape sequence), and the
# characters that turn the reading direction of what follows. Half surrogates and the separators of lines go along:
# the ones cannot be written as UTF-8, the others are line ends to some terminals.
_CONTROL = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_OBEYED = re.compile(f"[{_CONTROL}]")
_OBEYED_IN_LINES = re.compile(f"(?!\n)[{_CONTROL}]")
_DELETE = 0x7F


def visible(text: str, *, lines: bool = False) -> str:
    """`text` with a visible mark in the place of each character that a terminal would obey: `␛` for ESC, `<U+202E>`
    for the right-to-left override.

    lines: ends of lines stay as they are; otherwise they are marked too (`␊`), and the result is one line
    """
    return (_OBEYED_IN_LINES if lines else _OBEYED).sub(_mark, text)


def one_line(text: str) -> str:
    """`text` in one line: white space of every kind is one blank, and what a terminal would obey is marked."""
    return visible(" ".join(text.split()))


def escaped(document: str) -> str:
    """A JSON document with the same characters written as `\\u` escapes: the same values, safe to print."""
    return _OBEYED.sub(lambda match: f"\\u{ord(match[0]):04x}", document)


def human_bytes(size: float) -> str:
    """A size as people read it: `0 bytes`, `12 kB`, `3.8 MB` (powers of 1,000, as disks are sold)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def _mark(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode's pictures of control characters
    return "\u2421" if code == _DELETE else f"<U+{code:04X}>"
