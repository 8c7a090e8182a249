from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.engine.collection import Document, Fields, open_corpus, read_corpus
from tandem.engine.errors import CorpusError


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_quotes_and_lines_inside_of_cells(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text", "lang"], ["1", 'two\nlines, "quoted"', "en"], ["2", "x", "de"]])
    assert list(read_corpus(path)) == [
        Document("1", "", 'two\nlines, "quoted"', {"lang": "en"}),
        Document("2", "", "x", {"lang": "de"}),
    ]
    assert open_corpus(path).source.size == 2


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str, end: str) -> None:
    rows = [["id", "text", '"price, in EUR"'], ["1", '"a; b, c|d\te"', "3"]]
    path = write(tmp_path / "c.csv", "".join(delimiter.join(row) + end for row in rows))
    assert list(read_corpus(path)) == [Document("1", "", "a; b, c|d\te", {"price, in EUR": 3})]


def test_a_spreadsheets_line_names_the_delimiter(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "\ufeffsep=;\r\nid;text,with\r\n1;x\r\n2;y;surplus\r\n")
    documents = read_corpus(path, fields=Fields(text="text,with"))
    assert next(documents) == Document("1", "", "x")
    with pytest.raises(CorpusError, match="line 4: the row has more values"):
        next(documents)


def test_compressed(tmp_path: Path) -> None:
    path = write(tmp_path / "c.CSV.gz", gzip.compress(b"id,text\n1,x\n"))
    assert list(read_corpus(path)) == [Document("1", "", "x")]


def test_tabs_with_and_without_quoting(tmp_path: Path) -> None:
    quoted = write(tmp_path / "q.tsv", 'id\ttext\n1\t"two\nlines"\n')
    assert [document.text for document in read_corpus(quoted)] == ["two\nlines"]
    plain = write(tmp_path / "p.tsv", 'id\ttext\n1\t"Quoted" he said\n2\tan "inch\n3\t"open\n')
    assert [document.text for document in read_corpus(plain)] == ['"Quoted" he said', 'an "inch', '"open']
    one = write(tmp_path / "o.tsv", "text;with;semicolons\nx\n")
    assert [document.text for document in read_corpus(one, fields=Fields(text="text;with;semicolons"))] == ["x"]


def test_names_cells_and_rows_that_are_empty(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", ",id, text ,n\n0,1,x,\n\n1,2,y\n2,3,z,7,,\n")
    assert list(read_corpus(path)) == [
        Document("1", "", "x"), Document("2", "", "y"), Document("3", "", "z", {"n": 7})
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,text\n1,x,surplus\n2,y\n", "line 2: the row has more values than the header has names"),
        ('id,text\n1,"open\n', r"line 2: the row is not CSV"),
        ('id,text\n1,"a"b\n', r"line 2: the row is not CSV"),
        ("id,text,id\n1,x,2\n", "the header names the column 'id' twice"),
        ("id,text\n1,\n", "line 2: the field 'text' is empty, and it is to be the text"),
        ("id,text\n,x\n", "line 2: the field 'id' is empty, and it is to be the id"),
        (
            "id,body\n1,x\n",
            "line 2: there is no field 'text' for the text, only 'id', 'body'; name it with --text-field",
        ),
        ("id,text\n", "holds no document"),
        ("", "holds no document"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(CorpusError, match=said):
        list(read_corpus(write(tmp_path / "c.csv", text)))


def test_a_wrong_row_is_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "id,text\n1,x,surplus\n2,y\n")
    assert [document.id for document in read_corpus(path, skip_bad=True)] == ["2"]


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "id,text\n1,x\n2,y\n")
    corpus = open_corpus(path)
    with path.open("a") as file:
        file.write("3,z\n")
    with pytest.raises(CorpusError, match="changed while it was read"):
        list(corpus)


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS.map("x".__add__), CELLS), min_size=1, max_size=5), delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
)  # fmt: skip
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str, end: str
) -> None:
    path = tmp_path_factory.mktemp("csv") / "c.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
        writer.writerows([["id", "text", "m"], *([number, *row] for number, row in enumerate(rows))])
    found = list(read_corpus(path, fields=Fields(types={"m": "text"})))
    assert [(document.text, document.metadata.get("m", "")) for document in found] == rows
