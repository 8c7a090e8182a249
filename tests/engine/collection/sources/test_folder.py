from __future__ import annotations

import gzip
import hashlib
import os
import sys
from pathlib import Path

import pytest

from tandem.engine.collection import Fields, Files, open_corpus, read_corpus
from tandem.engine.errors import CorpusError, InputError


def fill(folder: Path, **files: str | bytes) -> Path:
    for name, data in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def ids(source: Path | Files, **options: object) -> list[str]:
    return [document.id for document in read_corpus(source, **options)]


def test_a_mixed_folder(tmp_path: Path) -> None:
    rows = {
        "e_csv": "id,text\n1,x\n2,y\n", "f_tsv": "id\ttext\n1\tz", "g_json": '[{"id": 1, "text": "j"}]',
        "h_jsonl": '{"id": 1, "text": "l"}\n', "i_ndjson": '{"text": "hashed"}\n',
        "deep__k_jsonl_gz": gzip.compress(b'{"id": 1, "text": "m"}'),
    }  # fmt: skip
    fill(tmp_path, a_md="# A", b_txt="b", deep__c_rst="c", d_html="<p>d", **rows)
    corpus = open_corpus(tmp_path)
    found = [document.id for document in corpus]
    assert found[:-1] == [
        "a.md", "b.txt", "d.html", "deep/c.rst", "deep/k.jsonl.gz/1", "e.csv/1", "e.csv/2", "f.tsv/1", "g.json/1",
        "h.jsonl/1",
    ]  # fmt: skip
    assert found[-1] == hashlib.sha256(b"\0hashed").hexdigest()[:32]
    assert corpus.notes == [
        "read 10 files: 2 .jsonl, 1 .csv, 1 .html, 1 .json, 1 .md, 1 .ndjson, 1 .rst, 1 .tsv, 1 .txt",
        "rows without an id: 1; the id of each is the hash of its text and title",
    ]
    assert corpus.source.passed_over == {}
    assert corpus.source.size is None, "how many objects a list has, is known when it was read"


def test_with_an_id_field_ids_are_the_rows_own(tmp_path: Path) -> None:
    fill(tmp_path, a_jsonl='{"key": "one", "text": "x"}', b_csv="key,text\ntwo,y\n", note_md="z")
    assert ids(tmp_path, fields=Fields(id="key")) == ["one", "two", "note.md"]
    fill(tmp_path, c_jsonl='{"key": "one", "text": "again"}')
    with pytest.raises(CorpusError, match=r"c\.jsonl, line 1: the id 'one' occurs a second time"):
        ids(tmp_path, fields=Fields(id="key"))


def test_what_is_passed_over_is_counted_and_named(tmp_path: Path) -> None:
    fill(
        tmp_path, a_md="a", one_png=b"\x89PNG", deep__two_PNG=b"", slides_pptx=b"x", README="x", all_tar_gz=b"x",
        empty_md="", blank_csv=" \n\t", _hidden_md="h", _git__config_md="h",
    )  # fmt: skip
    (tmp_path / "gone.md").symlink_to(tmp_path / "nowhere")
    (tmp_path / "linked").symlink_to(tmp_path / "deep")
    corpus = open_corpus(tmp_path)
    assert [document.id for document in corpus] == ["a.md"]
    assert corpus.source.passed_over == {
        ".png": 2, ".pptx": 1, ".tar": 1, "without an ending": 1, "empty": 2, "no plain file": 1, "linked folder": 1
    }  # fmt: skip
    assert corpus.notes == [
        "read 1 file: 1 .md",
        "passed over 9 files: 2 .png, 1 .pptx, 1 .tar, 2 empty, 1 linked folder, 1 no plain file, 1 without an ending",
    ]


def test_a_folder_in_which_nothing_is_read(tmp_path: Path) -> None:
    fill(tmp_path, a_png=b"x")
    with pytest.raises(CorpusError, match=r"holds no file that is read \(\.txt .*\); passed over 1 file: 1 \.png"):
        open_corpus(tmp_path)


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("*.md",), (), ["a.md", "drafts/b.md", "drafts/old/c.md"]),
        ((), ("drafts",), ["a.md", "d.txt"]),
        ((), ("drafts/",), ["a.md", "d.txt"]),
        ((), ("drafts/*",), ["a.md", "d.txt"]),
        ((), ("old", "*.txt"), ["a.md", "drafts/b.md"]),
        (("drafts/*", "d.*"), ("*/old/*",), ["d.txt", "drafts/b.md"]),
        (("./a.md",), (), ["a.md"]),
    ],
)
def test_include_and_exclude(
    tmp_path: Path, include: tuple[str, ...], exclude: tuple[str, ...], expected: list[str]
) -> None:
    fill(tmp_path, a_md="a", drafts__b_md="b", drafts__old__c_md="c", d_txt="d")
    corpus = open_corpus(Files(tmp_path, include, exclude))
    assert sorted(document.id for document in corpus) == expected
    assert corpus.source.passed_over == {"by --include and --exclude": 4 - len(expected)}


def test_a_pattern_that_leaves_nothing(tmp_path: Path) -> None:
    fill(tmp_path, a_md="a")
    with pytest.raises(CorpusError, match="passed over 1 file: 1 by --include and --exclude"):
        open_corpus(Files(tmp_path, include=("*.mdx",)))
    fill(tmp_path, corpus_jsonl='{"_id": "a", "text": "x"}')
    with pytest.raises(InputError, match=r"of a BEIR folder only corpus\.jsonl is read: leave out --include"):
        open_corpus(Files(tmp_path, include=("*.md",)))


def test_a_missing_library_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    fill(tmp_path, a_md="a", b_pdf=b"%PDF", c_pdf_gz=b"x")
    corpus = open_corpus(tmp_path)
    assert [document.id for document in corpus] == ["a.md"]
    assert corpus.notes[1:] == [
        "passed over 2 files: 2 .pdf", "2 .pdf need a library: pip install 'tandem[documents]'"
    ]  # fmt: skip


def test_a_collection_inside_of_its_corpus_is_no_part_of_it(tmp_path: Path) -> None:
    fill(tmp_path, a_md="a", col__CURRENT="{}", col__versions__1__manifest_json="{}", model__manifest_json="{}")
    fill(tmp_path, model__tokenizer_json="{}", model__vocab_txt="words")
    corpus = open_corpus(tmp_path)
    assert [document.id for document in corpus] == ["a.md"]
    assert corpus.notes == ["read 1 file: 1 .md"]
    with pytest.raises(CorpusError, match="is a collection or a model of Tandem's"):
        open_corpus(tmp_path / "col")


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, a_md="a", shut__b_md="b")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(CorpusError, match="shut cannot be read: Permission denied"):
        open_corpus(tmp_path)


def test_the_fingerprint_is_that_of_names_contents_and_options(tmp_path: Path) -> None:
    fill(tmp_path, a_md="a", b_jsonl='{"id": 1, "text": "x"}')
    prints = [open_corpus(tmp_path).source.fingerprint, open_corpus(tmp_path).source.fingerprint]
    prints.append(open_corpus(tmp_path, fields=Fields(title="t")).source.fingerprint)
    prints.append(open_corpus(Files(tmp_path, exclude=("*.md",))).source.fingerprint)
    fill(tmp_path, a_md="b")
    prints.append(open_corpus(tmp_path).source.fingerprint)
    (tmp_path / "a.md").rename(tmp_path / "c.md")
    prints.append(open_corpus(tmp_path).source.fingerprint)
    assert prints[0] == prints[1]
    assert len(set(prints)) == 5


def test_a_broken_file_is_named_and_can_be_left_out(tmp_path: Path) -> None:
    fill(tmp_path, a_md="a", package_json='{"name": "x"}')
    with pytest.raises(CorpusError, match=r"package\.json, line 1: its object holds no lists of objects"):
        ids(tmp_path)
    assert ids(Files(tmp_path, exclude=("package.json",))) == ["a.md"]
