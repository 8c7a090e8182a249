from __future__ import annotations

from pathlib import Path

import pytest

from tandem.engine.collection import Fields, open_corpus
from tandem.engine.collection.sources.field_types import Columns, converted
from tandem.engine.errors import CorpusError


def type_of(*values: str | None) -> str | None:
    columns = Columns()
    for value in values:
        columns.feed({"c": value})
    return columns.types().get("c")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("2021", "-3", "0"), "number"),
        (("2021", "3.50", "1e-3"), "number"),
        (("2021", None, "7"), "number"),
        ((" 7 ",), "number"),
        (("01234", "99999"), "text"),
        (("1", "n/a"), "text"),
        (("+49170",), "text"),
        (("3,14",), "text"),
        (("1234567890123456789",), "text"),
        (("1e999",), "text"),
        (("NaN",), "text"),
        (("1_000",), "text"),
        (("True", "FALSE", "true"), "boolean"),
        (("true", "1"), "text"),
        (("2020-01-31", "1999-12-01"), "date"),
        (("2020-13-31",), "text"),
        (("2020-01",), "text"),
        (("2020-01-31", "31.01.2020"), "text"),
        (("2020-01-31T10:00", "2020-01-31T10:00:05.25"), "date"),
        (("2020-01-31T10:00Z",), "date"),
        (("2020-01-31T10:00+01:00", "2020-01-31T10:00+02:00"), "text"),  # as text they would sort wrongly
        (("2020-01-31T10:00", "2020-01-31 10:00"), "text"),
        (("2020-01-31", "2020-01-31T10:00"), "text"),
        ((None,), None),
        ((), None),
    ],
)
def test_the_type_of_a_column(values: tuple[str | None, ...], expected: str | None) -> None:
    assert type_of(*values) == expected


@pytest.mark.parametrize(
    ("value", "wanted", "expected"),
    [
        ("007", "number", 7), ("+1.5", "number", 1.5), (".5", "number", 0.5), (3, "number", 3), ("", "number", None),
        (None, "number", None), ("12345678901234567890", "number", 12345678901234567890.0),
        ("Yes", "boolean", True), ("0", "boolean", False), (True, "boolean", True), (1, "text", "1"), ("", "text", ""),
        (["1", "2"], "number", [1, 2]), ("2020-01-31", "date", "2020-01-31"),
    ],
)  # fmt: skip
def test_conversion(value: object, wanted: str, expected: object) -> None:
    made = converted(value, wanted)
    assert made == expected
    assert type(made) is type(expected)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("x", "number"), ("1_0", "number"), ("1e999", "number"), (True, "number"), (1, "boolean"), ("maybe", "boolean"),
     ("yesterday", "date"), ("2020-02-30", "date"), (20200101, "date"), ({"a": 1}, "number")],
)  # fmt: skip
def test_what_does_not_convert(value: object, wanted: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its message is the value
        converted(value, wanted)


def test_a_csv_has_its_types(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(
        "id,text,year,price,draft,when,zip,note\n01,7,2021,3.5,true,2020-01-02,01234,\n02,8,2019,4,false,2021-01-02,99999,\n"
    )
    corpus = open_corpus(path)
    assert corpus.source.field_types == {
        "year": "number", "price": "number", "draft": "boolean", "when": "date", "zip": "text"
    }  # fmt: skip
    first = next(iter(corpus))
    assert (first.id, first.text) == ("01", "7")
    assert first.metadata == {"year": 2021, "price": 3.5, "draft": True, "when": "2020-01-02", "zip": "01234"}


def test_a_named_type_goes_before_the_inferred_one(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("id,text,year,n\n1,x,2021,1\n2,y,2019,n/a\n")
    corpus = open_corpus(path, fields=Fields(types={"year": "text"}))
    assert [document.metadata for document in corpus] == [{"year": "2021", "n": "1"}, {"year": "2019", "n": "n/a"}]
    assert corpus.source.field_types == {"year": "text", "n": "text"}
    numbers = open_corpus(path, fields=Fields(types={"n": "number"}))
    with pytest.raises(CorpusError, match="line 3: the field 'n' is no number: 'n/a'"):
        list(numbers)


def test_the_files_of_a_folder_share_their_types(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text,year,n\n1,x,2021,1\n")
    (tmp_path / "b.tsv").write_text("id\ttext\tyear\tn\n1\ty\t2020\tn/a\n")
    corpus = open_corpus(tmp_path)
    assert [document.metadata for document in corpus] == [{"year": 2021, "n": "1"}, {"year": 2020, "n": "n/a"}]
    assert corpus.source.field_types == {"year": "number", "n": "text"}
    (tmp_path / "c.jsonl").write_text('{"id": 1, "text": "z", "year": "about 2020", "n": 7}')
    *_, last = open_corpus(tmp_path)
    assert last.metadata == {"year": "about 2020", "n": 7}, "what is inferred of CSV is for CSV"
