"""One file of a corpus: scanned once before it is read, so that it is known what it holds and whether it changes."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

from ...errors import CorpusError
from .encodings import Codec, Detector

BLOCK = 1 << 20
MARK = "\ufeff"
_LINE_END_IS_A_BYTE = ("utf-8", "cp1252")
"""Encodings whose lines can be cut before they are decoded, so that one bad line leaves the others."""


class Unusable(Exception):
    """What is wrong with a document, told by its reader."""


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """A file as it was when it was scanned.

    name:   what the ids of its documents begin with: its path in the folder that is indexed, or its own name
    sha256: of its bytes, decompressed
    lines:  how often a line ends in it
    """

    path: Path
    name: str
    sha256: str
    lines: int
    codec: Codec
    blank: bool
    state: tuple[int, int]

    def binary(self) -> BinaryIO:
        """Its bytes, decompressed; to be closed by the caller."""
        return open_binary(self.path)

    def text(self) -> TextIO:
        """Its text with line ends as they are, to be closed by the caller. A byte-order mark stays."""
        return io.TextIOWrapper(self.binary(), self.codec.name, newline="")

    def whole(self) -> bytes:
        """All its bytes, decompressed. Raises CorpusError when they are not those that were scanned."""
        with reading(self.path), self.binary() as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise self.changed()
        return data

    def whole_text(self) -> str:
        """All its text. Raises Unusable where a byte is none of its encoding's."""
        try:
            return self.whole().decode(self.codec.name).removeprefix(MARK)
        except UnicodeDecodeError as error:
            raise Unusable(wrong_byte(error, self.codec, "the file")) from None

    def numbered_lines(self) -> Iterator[tuple[int, str | Unusable]]:
        """Its lines, counted from 1, read one by one; Unusable in the place of one that cannot be decoded."""
        if self.codec.name not in _LINE_END_IS_A_BYTE:
            yield from self._decoded_lines()
            return
        with reading(self.path), self.binary() as file:
            for number, line in enumerate(file, 1):
                try:
                    text = line.decode(self.codec.name)
                    yield number, text.removeprefix(MARK) if number == 1 else text
                except UnicodeDecodeError as error:
                    yield number, Unusable(wrong_byte(error, self.codec, "the line"))

    def _decoded_lines(self) -> Iterator[tuple[int, str]]:
        number = 0
        with reading(self.path), io.TextIOWrapper(self.binary(), self.codec.name, newline="\n") as file:
            try:
                for number, line in enumerate(file, 1):
                    yield number, line.removeprefix(MARK) if number == 1 else line
            except UnicodeDecodeError as error:
                raise self.undecodable(number, error) from error

    def undecodable(self, line: int, error: UnicodeDecodeError) -> CorpusError:
        """What is raised where decoding broke off some thousand characters after `line`, so that nothing can follow."""
        encoding = self.codec.name.upper()
        return CorpusError(f"{self.path}, after line {line}: not valid {encoding} ({error.reason}); {_SAVE}")

    def changed(self) -> CorpusError:
        """What is raised for a file that was written after the scan."""
        return CorpusError(f"{self.path} changed while it was read; index it again")

    def check_unchanged(self) -> None:
        """Raises CorpusError when the file was written after the scan: the fingerprint is that of the scan."""
        with reading(self.path):
            if _state(self.path) != self.state:
                raise self.changed()


_SAVE = "save the file as UTF-8, or name its encoding with --encoding"


def wrong_byte(error: UnicodeDecodeError, codec: Codec, where: str) -> str:
    """What is wrong at the first byte that is none of the encoding's."""
    return f"byte {error.start + 1} of {where} is not valid {codec.name.upper()}; {_SAVE}"


def scan(path: Path, name: str, *, text: bool, html: bool = False, encoding: str | None = None) -> CorpusFile:
    """Read a file once: its hash, its lines and, where it is `text`, its encoding, unless that is given.

    Raises CorpusError when it cannot be read to its end.
    """
    digest, detector, lines = hashlib.sha256(), Detector(), 0
    with reading(path):
        state = _state(path)
        with open_binary(path) as file:
            while block := file.read(BLOCK):
                digest.update(block)
                if text:
                    detector.feed(block)
                    lines += block.count(b"\n")
    detector.feed(b"")
    codec = Codec(codecs.lookup(encoding).name) if encoding else detector.codec(html=html)
    return CorpusFile(path, name, digest.hexdigest(), lines, codec, text and detector.blank, state)


def open_binary(path: Path) -> BinaryIO:
    """The bytes of a file, decompressed where its name ends in .gz."""
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raises CorpusError for whatever a disk or a torn .gz file raises."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorpusError(f"{path} cannot be read to its end: {error}; is it complete?") from error
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from error


def _state(path: Path) -> tuple[int, int]:
    """What changes when a file is written."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns
