from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.engine.collection import Document, read_corpus
from tandem.engine.errors import CorpusError


@pytest.mark.parametrize(
    "text",
    [
        '[{"id": 1, "text": "x"}, {"id": 2, "text": "y", "n": [1]}]',
        '\ufeff\n [ {"id":1,"text":"x"}\n,\n{"id":2,"text":"y","n":[1]} ] \n',
        '{"count": 2, "items": [{"id": 1, "text": "x"}, {"id": 2, "text": "y", "n": [1]}], "tags": ["a"], "none": []}',
    ],
)
@pytest.mark.parametrize("ending", [".json", ".json.gz"])
def test_a_list_of_objects_alone_or_in_an_object(tmp_path: Path, text: str, ending: str) -> None:
    path = tmp_path / f"c{ending}"
    path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    assert list(read_corpus(path)) == [Document("1", "", "x"), Document("2", "", "y", {"n": [1]})]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("7", "line 1: it begins with '7'; a .json file holds one list of objects"),
        ('{"id": 1, "text": "x"}', "line 1: its object holds no lists of objects; a .json"),
        ('{"a": [{"id": 1}], "b": [{"id": 2}]}', "its object holds 2 lists of objects"),
        ('{"id": 1, "text": "x"}\n{"id": 2, "text": "y"}', r"line 2: something follows its object \(one object"),
        ('[{"id": 1, "text": "x"}]\n[]', r"line 2: something follows its list"),
        ('[{"id": 1, "text": "x"}\n{"id": 2}]', "line 2: a comma or ] is expected"),
        ('[{"id": 1, "text": "x"},\n]', "line 2: a value is expected before ]"),
        ('[{"id": 1, "text": "x"},\n{"id": NaN}]', "NaN is not a JSON number"),
        ('[{"id": 1, "text": "x"},\n\n{"id" 2}]', "line 3: Expecting ':'"),
        ('[{"id": 1, "text": "x"}', "a comma or ] is expected"),
        ('{"a" [1]}', "a name and a colon are expected"),
        ("", "line 1: it begins with ''"),
        ("[" * 100_000, "not JSON"),
        ("[]", "holds no document"),
        ('[{"id": 1, "text": "x"},\n5]', r"line 2 \(object 2 of its list\): the list holds something"),
        ('[{"id": 1, "text": "x"},\n\n{"id": 2}]', r"line 3 \(object 2 of its list\): there is no field 'text'"),
    ],
)  # fmt: skip
def test_what_is_neither(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(CorpusError, match=said):
        list(read_corpus(tmp_path / "c.json"))


def test_a_wrong_object_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('[{"id": 1, "text": "x"}, 5, {"id": 2}, {"id": 3, "text": "z"}]')
    assert [document.id for document in read_corpus(tmp_path / "c.json", skip_bad=True)] == ["1", "3"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.fixed_dictionaries({"m": VALUES}), min_size=1, max_size=4), indent=st.sampled_from([None, 0, 3]),
    wrapped=st.booleans(), ascii_only=st.booleans(),
)  # fmt: skip
def test_it_is_read_as_the_standard_library_reads_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict], indent: int | None, wrapped: bool, ascii_only: bool
) -> None:
    named = [{"id": number, "text": "x", **row} for number, row in enumerate(rows)]
    document = {"count": len(named), "rows": named, "rest": {"rows": [1]}} if wrapped else named
    path = tmp_path_factory.mktemp("json") / "c.json"
    path.write_text(json.dumps(document, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    assert [document.metadata for document in read_corpus(path)] == rows
