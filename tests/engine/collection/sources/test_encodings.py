from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from tandem.engine.collection import Files, open_corpus, read_corpus
from tandem.engine.collection.sources.encodings import Codec, Detector
from tandem.engine.errors import CorpusError

GERMAN = "Über größere Maße, „zitiert“ – 5 €\n" * 4
CYRILLIC = "Привет, мир! Это строка.\n" * 4
CHINESE = "你好 世界\n" * 40


def found(data: bytes, *, block: int = 7, html: bool = False) -> Codec:
    detector = Detector()
    for start in range(0, len(data), block):
        detector.feed(data[start : start + block])
    detector.feed(b"")
    return detector.codec(html=html)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", Codec("utf-8")),
        (b"plain", Codec("utf-8")),
        (GERMAN.encode(), Codec("utf-8")),
        (CHINESE.encode(), Codec("utf-8")),
        (codecs.BOM_UTF8 + b"x", Codec("utf-8")),
        (GERMAN.encode("utf-16"), Codec("utf-16")),
        (codecs.BOM_UTF16_BE + GERMAN.encode("utf-16-be"), Codec("utf-16")),
        (GERMAN.encode("utf-32"), Codec("utf-32")),
        (GERMAN.encode("utf-16-le"), Codec("utf-16-le", "UTF-16")),
        (GERMAN.encode("utf-16-be"), Codec("utf-16-be", "UTF-16")),
        (CYRILLIC.encode("utf-16-le"), Codec("utf-16-le", "UTF-16")),
        (CHINESE.encode("utf-16-be"), Codec("utf-16-be", "UTF-16")),
        (GERMAN.encode("cp1252"), Codec("cp1252", "Windows-1252")),
        ("Über Maß".encode("latin-1"), Codec("cp1252", "Windows-1252")),
        ("MENÜ“ für Gäste".encode("cp1252"), Codec("cp1252", "Windows-1252")),  # Ü“ is a character of UTF-8 too
        (GERMAN.encode() + b"\xff", Codec("utf-8")),  # damaged: nobody wants the rest as Windows-1252
        (CHINESE.encode()[:-2], Codec("utf-8")),
        (b"\x81\xff", Codec("utf-8")),  # Windows-1252 has no 81
        (b"\xff\0\xff" + b"x" * 99, Codec("utf-8")),
        (b"x" * 99 + b"\0", Codec("utf-8")),
    ],
)
def test_the_encoding_of_bytes(data: bytes, expected: Codec) -> None:
    assert found(data) == expected
    assert found(data, block=1 << 20) == expected


@pytest.mark.parametrize(
    ("page", "name"),
    [
        (b'<meta charset="koi8-r">\xf0\xd2', "koi8-r"),
        (b"<META http-equiv=Content-Type content='text/html; charset=windows-1250'>\xe8", "cp1250"),
        (b'<?xml version="1.0" encoding="ISO-8859-1"?>\xe8', "cp1252"),
        (b'<meta charset="nonsense">\xe8', "cp1252"),
        ('<meta charset="koi8-r">é'.encode(), "utf-8"),  # valid UTF-8 is UTF-8, whatever it claims
    ],
)
def test_a_page_names_its_charset(page: bytes, name: str) -> None:
    assert found(page, html=True).name == name


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("name", ["t.txt", "t.md", "t.jsonl", "t.csv", "t.tsv", "t.json", "t.html"])
def test_every_kind_of_text_in_every_encoding(tmp_path: Path, name: str, encoding: str) -> None:
    text = "Über größere Maße, 5 €"
    written = {
        ".jsonl": f'{{"text": "{text}"}}\n', ".json": f'[{{"text": "{text}"}}]', ".csv": f'text\n"{text}"\n',
        ".tsv": f"text\tn\n{text}\t1\n", ".html": f"<p>{text}</p>",
    }  # fmt: skip
    (tmp_path / name).write_bytes(written.get((tmp_path / name).suffix, text).encode(encoding))
    corpus = open_corpus(tmp_path / name)
    assert [document.text for document in corpus] == [text]
    told = {"cp1252": "Windows-1252", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}.get(encoding)
    guesses = [note for note in corpus.notes if note.startswith("read as")]
    assert guesses == (
        [] if told is None
        else [f"read as {told}, by their bytes: {name}; if that is wrong, name the encoding with --encoding"]
    )  # fmt: skip


def test_only_the_lines_that_are_wrong_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes('{"text": "äöü"}\n'.encode() + b'{"text": "\xff"}\n' + '{"text": "ß"}\n'.encode())
    with pytest.raises(CorpusError, match="line 2: byte 11 of the line is not valid UTF-8; save the file as UTF-8, or"):
        list(read_corpus(path))
    for encoding in (None, "UTF8"):
        assert [document.text for document in read_corpus(Files(path, encoding=encoding), skip_bad=True)] == [
            "äöü",
            "ß",
        ]


def test_a_text_that_is_in_no_encoding_names_its_first_wrong_byte(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"ab\x81\xff")
    with pytest.raises(CorpusError, match=r"t\.txt: byte 3 of the file is not valid UTF-8"):
        list(read_corpus(tmp_path / "t.txt"))
    with pytest.raises(CorpusError, match="byte 3 of the file is not valid SHIFT_JIS"):
        list(read_corpus(Files(tmp_path / "t.txt", encoding="shift_jis")))


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv"])
def test_utf_16_that_breaks_off(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes("text\n".encode("utf-16") + b"\x00\xd8\x00")
    with pytest.raises(CorpusError, match=r"after line \d: not valid UTF-16"):
        list(read_corpus(tmp_path / name, skip_bad=True))
