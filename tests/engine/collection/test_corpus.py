from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from tandem.engine.collection import Document, Fields, Files, open_corpus, read_corpus
from tandem.engine.errors import CorpusError, InputError


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
        ('{"_id": null, "text": "y"}', "the field '_id' is null, and it is to be the id"),
        ('{"_id": "b"}', "there is no field 'text' for the text, only '_id'; name it with --text-field"),
        ('{"_id": "b", "text": null}', "the field 'text' is null, and it is to be the text"),
        ("{}", "only no field at all"),
        ('{"_id": "b", "text": 5}', "not text"),
        ('{"_id": "b", "text": "x", "title": 5}', "not text"),
        ('{"_id": true, "text": "x"}', "neither text nor a whole number"),
        ('{"_id": "", "text": "x"}', "id is empty"),
        ('{"_id": "a", "text": "again"}', "a second time"),
        ('{"_id": "b", "text": " \\n "}', "has no text"),
        ('{"_id": "b", "text": "half \\ud800"}', "not valid Unicode at character 5"),
        ('{"_id": "b", "text": "é"}'.encode() + b"\xff", "byte 27 of the line is not valid UTF-8"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_line_is_named_or_counted(tmp_path: Path, line: str | bytes, said: str) -> None:
    good = '{"_id": "a", "text": "äöü"}'
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
    with pytest.raises(CorpusError, match=r"is no corpus: give a file of a known kind \(\.txt .*\.docx\), a folder"):
        open_corpus(tmp_path / "corpus.pptx")
    with pytest.raises(CorpusError, match="cannot be read: No such file"):
        open_corpus(tmp_path / "absent.jsonl")
    with pytest.raises(CorpusError, match="holds no file that is read"):
        open_corpus(tmp_path)
    (tmp_path / "torn.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "a", "text": "x"}\n' * 999)[:-12])
    with pytest.raises(CorpusError, match="is it complete"):
        open_corpus(tmp_path / "torn.jsonl.gz", skip_bad=True)


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = lines(tmp_path / "c.jsonl", '{"_id": "a", "text": "x"}', '{"_id": "b", "text": "x"}')
    documents = read_corpus(path)
    next(documents)
    with path.open("a") as file:
        file.write('{"_id": "c", "text": "x"}\n')
    with pytest.raises(CorpusError, match="changed while"):
        list(documents)


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_a_beir_folder_is_the_corpus_it_holds(tmp_path: Path, name: str) -> None:
    write = gzip.open if name.endswith(".gz") else open
    with write(tmp_path / name, "wt") as file:
        file.write(json.dumps({"_id": "a", "title": "T", "text": "words"}) + "\n")
    (tmp_path / "notes.md").write_text("not part of it")
    assert [document.id for document in read_corpus(tmp_path)] == ["a"]
    assert open_corpus(tmp_path).source.fingerprint == open_corpus(tmp_path / name).source.fingerprint


def test_a_row_without_an_id_has_the_hash_of_its_content(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "c.jsonl", '{"text": "x", "n": 1}', '{"text": "y"}', '{"text": "x", "n": 2}',
        '{"text": "x", "title": "T"}',
    )  # fmt: skip
    corpus = open_corpus(path)
    documents = list(corpus)
    assert [(document.text, document.title, document.metadata) for document in documents] == [
        ("x", "", {"n": 1}), ("y", "", {}), ("x", "T", {})
    ]  # fmt: skip
    assert documents[0].id == hashlib.sha256(b"\0x").hexdigest()[:32]
    assert (corpus.hashed, corpus.repeated) == (3, 1)
    assert [note.split(";")[0] for note in corpus.notes] == [
        "rows without an id: 3", "rows without an id that repeat the text and title of an earlier one: 1"
    ]  # fmt: skip
    list(corpus)
    assert (corpus.hashed, corpus.repeated) == (3, 1), "counted anew by each reading"


def test_a_named_id_field_must_be_there(tmp_path: Path) -> None:
    path = lines(tmp_path / "c.jsonl", '{"key": 1, "text": "x"}', '{"text": "y"}')
    with pytest.raises(
        CorpusError, match="line 2: there is no field 'key' for the id, only 'text'; name it with --id-"
    ):
        list(read_corpus(path, fields=Fields(id="key")))


def test_named_types(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "c.jsonl",
        '{"_id": 1, "text": "x", "year": "2020", "zip": 1234, "tags": ["1", 2], "seen": "", "k": "v"}',
    )  # fmt: skip
    types = {"year": "number", "zip": "text", "tags": "number", "seen": "date"}
    corpus = open_corpus(path, fields=Fields(types=types))
    assert next(iter(corpus)).metadata == {"year": 2020, "zip": "1234", "tags": [1, 2], "seen": None, "k": "v"}
    assert corpus.source.field_types == types
    with pytest.raises(CorpusError, match="line 1: the field 'k' is no date: 'v'"):
        list(read_corpus(path, fields=Fields(types={"k": "date"})))
    assert corpus.source.fingerprint != open_corpus(path).source.fingerprint
    misspelt = open_corpus(path, fields=Fields(types={"yaer": "number"}))
    list(misspelt)
    assert misspelt.notes == ["no document has the field 'yaer', which has a type named"]
    with pytest.raises(InputError, match="'text' is the id, the text or the title"):
        Fields(types={"text": "number"})


def test_options_for_rows_and_files_are_refused_where_there_are_none(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("x")
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    for wrong in (
        lambda: open_corpus(Files(tmp_path / "c.parquet", encoding="cp1252")),
        lambda: open_corpus(note, fields=Fields(text="body")),
        lambda: open_corpus(Files(note, include=("*",))),
        lambda: open_corpus(Files("python:json", exclude=("*",))),
        lambda: open_corpus("python:json", fields=Fields(id="key")),
    ):
        with pytest.raises(InputError, match="leave out"):
            wrong()
    with pytest.raises(InputError, match="no encoding 'klingon'"):
        open_corpus(Files(note, encoding="klingon"))


def test_a_named_encoding_is_part_of_what_is_indexed(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_bytes("привет".encode("koi8-r"))
    assert [document.text for document in read_corpus(Files(note, encoding="koi8-r"))] == ["привет"]
    assert open_corpus(note).source.fingerprint != open_corpus(Files(note, encoding="koi8-r")).source.fingerprint


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
