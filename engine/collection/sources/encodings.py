"""Which encoding a text file is in, told by its bytes. The first rule that fits decides:

1. a byte-order mark: UTF-8, UTF-16 or UTF-32
2. zero bytes at every second place: UTF-16 without a mark, which people are told
3. all of it is UTF-8
4. the charset that an HTML page names
5. more bytes belong to characters of UTF-8 than are wrong: damaged UTF-8, whose wrong bytes are named when it is read
6. neither a zero byte nor one that Windows-1252 lacks: Windows-1252, which holds Latin-1; people are told
7. else UTF-8, so that the first wrong byte is named
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

HEAD = 65_536
"""Bytes from the beginning in which rules 1, 2 and 4 look."""
_MARKS = (
    # UTF-32 first: its mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_FEWEST_ZEROS = 0.05
"""Of the bytes at every second place: Chinese in UTF-16 has them in its spaces and line ends only."""
_UNLIKE_1252 = (b"\0", b"\x81", b"\x8d", b"\x8f", b"\x90", b"\x9d")
_ESCAPED = re.compile("[\udc80-\udcff]")
_DECLARED = re.compile(rb"<(?:meta|\?xml)[^>]*?(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_LATIN = ("iso8859-1", "ascii")
"""Browsers read a page that claims to be one of these as Windows-1252, which has the same letters and more."""


@dataclass(frozen=True, slots=True)
class Codec:
    """An encoding by its name in Python. `guessed`: what it is called where only its bytes told it, else empty."""

    name: str
    guessed: str = ""


class Detector:
    """Is fed the blocks of a file, and says then what it is."""

    def __init__(self) -> None:
        self.blank = True
        """Whether there was nothing but white space so far."""
        self._head = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._valid = self._invalid = 0
        self._unlike_1252 = False

    def feed(self, block: bytes) -> None:
        """The next block of the file; an empty one at its end."""
        self._head += block[: HEAD - len(self._head)]
        self.blank = self.blank and not block.strip()
        if block.isascii() and not self._decoder.getstate()[0] and b"\0" not in block:
            return
        self._unlike_1252 = self._unlike_1252 or any(byte in block for byte in _UNLIKE_1252)
        text = self._decoder.decode(block, final=not block)
        self._valid += len(block) - len(text)  # what characters have beyond their first byte
        try:
            text.encode()
        except UnicodeEncodeError:
            self._invalid += len(_ESCAPED.findall(text))

    def codec(self, *, html: bool = False) -> Codec:
        """The encoding of what was fed. `html`: the page may name it."""
        if name := next((name for mark, name in _MARKS if self._head.startswith(mark)), None):
            return Codec(name)
        if name := self._by_zeros():
            return Codec(name, "UTF-16")
        if not self._invalid:
            return Codec("utf-8")
        if html and (declared := _declared(self._head)):
            return Codec(declared)
        if self._valid > self._invalid or self._unlike_1252:
            return Codec("utf-8")
        return Codec("cp1252", "Windows-1252")

    def _by_zeros(self) -> str:
        """UTF-16 by the zero bytes that Latin letters, spaces and line ends have in it."""
        first, second = (self._head[start::2].count(0) for start in (0, 1))
        most, least = max(first, second), min(first, second)
        if most <= _FEWEST_ZEROS * len(self._head) / 2 or least * 4 > most:
            return ""
        return "utf-16-le" if second == most else "utf-16-be"


def is_codec(name: str) -> bool:
    """Whether `name` is an encoding of texts that Python knows."""
    try:
        "".encode(name)
    except LookupError:
        return False
    return True


def _declared(head: bytes) -> str:
    """The encoding that an HTML page says it is in; nothing where it says none that is known."""
    match = _DECLARED.search(head[:4096])
    name = "" if match is None else match[1].decode("ascii", "replace")
    if not name or not is_codec(name):
        return ""
    known = codecs.lookup(name).name
    return "cp1252" if known in _LATIN else known
