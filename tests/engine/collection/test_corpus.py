from __future__ import annotations

import csv
import gzip
import json
import sys
from pathlib import Path

import pytest

from tandem.engine.collection import Document, Fields, open_corpus, read_corpus
from tandem.engine.errors import CorpusError


def lines(path: Path, *rows: str | bytes) -> Path:
    path.write_bytes(b"".join((row.encode() if isinstance(row, str) else row) + b"\n" for row in rows))
    return path


def test_beir_lines_keep_other_fields_as_metadata(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "corpus.jsonl", '{"_id": "a", "title": "T", "text": "x", "year": 1999, "tags": ["b"]}', "",
        '{"id": 7, "text": "y"}',
    )  # fmt: skip
    assert list(read_corpus(path)) == [
        Document("a", "T", "x", {"year": 1999, "tags": ["b"]}),
        Document("7", "", "y", {}),
    ]


def test_gzip_and_named_fields(tmp_path: Path) -> None:
    path = tmp_path / "faq.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"key": "k", "body": "b", "head": "h", "text": "other"}\n'))
    documents = list(read_corpus(path, fields=Fields(id="key", text="body", title="head")))
    assert documents == [Document("k", "h", "b", {"text": "other"})]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{not json", "not JSON"),
        ("[1, 2]", "not an object"),
        ('{"text": "x"}', "--id-field"),
        ('{"_id": "b"}', "--text-field"),
        ('{"_id": "b", "text": 5}', "not text"),
        ('{"_id": "b", "text": "x", "title": 5}', "not text"),
        ('{"_id": true, "text": "x"}', "neither text nor a whole number"),
        ('{"_id": "", "text": "x"}', "id is empty"),
        ('{"_id": "a", "text": "again"}', "a second time"),
        ('{"_id": "b", "text": " \\n "}', "has no text"),
        ('{"_id": "b", "text": "half \\ud800"}', "not valid Unicode at character 5"),
        (b'{"_id": "b", "text": "\xff"}', "byte 23 of the line is not valid UTF-8"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_line_is_named_or_counted(tmp_path: Path, line: str | bytes, said: str) -> None:
    good = '{"_id": "a", "text": "x"}'
    path = lines(tmp_path / "c.jsonl", good, line, '{"_id": "z", "text": "x"}')
    with pytest.raises(CorpusError, match=r"c\.jsonl, line 2: ") as caught:
        list(read_corpus(path))
    assert said in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    corpus = open_corpus(path, skip_bad=True)
    assert [document.id for document in corpus] == ["a", "z"]
    assert corpus.skipped == 1


def test_an_empty_corpus_and_one_of_bad_lines_only(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no document"):
        list(read_corpus(lines(tmp_path / "c.jsonl")))
    with pytest.raises(CorpusError, match="1 unusable"):
        list(read_corpus(lines(tmp_path / "d.jsonl", "{"), skip_bad=True))


def test_what_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="is no corpus"):
        open_corpus(tmp_path / "corpus.docx")
    with pytest.raises(CorpusError, match="cannot be read"):
        open_corpus(tmp_path / "absent.jsonl")
    with pytest.raises(CorpusError, match=r"no \.txt or \.md"):
        open_corpus(tmp_path)
    (tmp_path / "torn.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "a", "text": "x"}\n' * 999)[:-12])
    with pytest.raises(CorpusError, match="is it complete"):
        list(read_corpus(tmp_path / "torn.jsonl.gz", skip_bad=True))


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = lines(tmp_path / "c.jsonl", '{"_id": "a", "text": "x"}', '{"_id": "b", "text": "x"}')
    documents = read_corpus(path)
    next(documents)
    with path.open("a") as file:
        file.write('{"_id": "c", "text": "x"}\n')
    with pytest.raises(CorpusError, match="changed while"):
        list(documents)


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text", "lang"], ["1", 'two\nlines, "quoted"', "en"], ["2", "x", "de"]])
    assert list(read_corpus(path)) == [
        Document("1", "", 'two\nlines, "quoted"', {"lang": "en"}),
        Document("2", "", "x", {"lang": "de"}),
    ]


def test_csv_that_is_broken(tmp_path: Path) -> None:
    path = lines(tmp_path / "c.csv", "id,text", "1,x,surplus", "2,y")
    with pytest.raises(CorpusError, match="line 2: the row has more values"):
        list(read_corpus(path))
    assert [document.id for document in read_corpus(path, skip_bad=True)] == ["2"]
    with pytest.raises(CorpusError, match="not CSV"):
        list(read_corpus(lines(tmp_path / "d.csv", "id,text", '1,"open')))
    with pytest.raises(CorpusError, match="UTF-8"):
        list(read_corpus(lines(tmp_path / "e.csv", "id,text", b"1,\xff")))


def test_parquet_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorpusError, match="pip install pyarrow"):
        list(read_corpus(tmp_path / "c.parquet"))


def test_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is optional")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"id": ["a"], "text": ["x"], "n": [1]}), tmp_path / "c.parquet")
    assert list(read_corpus(tmp_path / "c.parquet")) == [Document("a", "", "x", {"n": 1})]


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_a_beir_folder_is_the_corpus_it_holds(tmp_path: Path, name: str) -> None:
    write = gzip.open if name.endswith(".gz") else open
    with write(tmp_path / name, "wt") as file:
        file.write(json.dumps({"_id": "a", "title": "T", "text": "words"}) + "\n")
    (tmp_path / "notes.md").write_text("not part of it")
    assert [document.id for document in read_corpus(tmp_path)] == ["a"]
    assert open_corpus(tmp_path).source.fingerprint == open_corpus(tmp_path / name).source.fingerprint


def test_a_folder_of_texts(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.md").write_text("intro\n\n## The *heading*\n\ntext")
    (tmp_path / "a.txt").write_text("\ufeff# no heading in plain text")
    (tmp_path / "ignored.pdf").write_bytes(b"%PDF")
    (tmp_path / ".hidden.txt").write_text("hidden")
    assert list(read_corpus(tmp_path)) == [
        Document("a.txt", "a", "# no heading in plain text"),
        Document("deep/b.md", "The *heading*", "intro\n\n## The *heading*\n\ntext"),
    ]
    (tmp_path / "c.txt").write_bytes(b"ab\xff")
    with pytest.raises(CorpusError, match=r"c\.txt: byte 3 is not valid UTF-8"):
        list(read_corpus(tmp_path))
    before = open_corpus(tmp_path).source.fingerprint
    (tmp_path / "c.txt").write_bytes(b"abc")
    assert open_corpus(tmp_path).source.fingerprint != before


def test_documentation_of_the_standard_library() -> None:
    documents = list(read_corpus("python:json,string"))
    names = [document.id for document in documents]
    assert names[0] == "json"
    assert {"json.dumps", "json.JSONDecoder.decode", "string.Template"} <= set(names)
    assert len(set(names)) == len(names)
    assert len({document.text for document in documents}) == len(documents)
    dumps = next(document for document in documents if document.id == "json.dumps")
    assert dumps.title == "json.dumps"
    assert "formatted" in dumps.text
    assert dumps.metadata == {"kind": "function", "module": "json"}
    assert documents == list(read_corpus("python:json,string"))


def test_a_package_that_prints_warns_and_exits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "noisy"
    package.mkdir()
    doc = "A function that is documented at some length, so that it counts."
    code = "import os, warnings\nprint('printed')\nos.write(1, b'raw')\nwarnings.warn('careful')\n"
    (package / "__init__.py").write_text(f"{code}def f():\n    {doc!r}\n")
    (package / "exits.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    assert [(document.id, document.text) for document in read_corpus("python:noisy")] == [("noisy.f", doc)]
    assert capfd.readouterr() == ("", "")


def test_packages_that_are_not_there() -> None:
    with pytest.raises(CorpusError, match=r"no_such_package_here.*installed"):
        open_corpus("python:no_such_package_here")
    with pytest.raises(CorpusError, match="names no package"):
        open_corpus("python:")


def test_metadata_survives_as_json(tmp_path: Path) -> None:
    row = {"_id": "a", "text": "x", "nested": {"list": [1, None, "ü"]}}
    path = lines(tmp_path / "c.jsonl", json.dumps(row, ensure_ascii=False))
    assert next(read_corpus(path)).metadata == {"nested": {"list": [1, None, "ü"]}}
